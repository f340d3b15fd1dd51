//! Sends requests over one connection, all at once, and prints the answers as they come:
//! `courier-client ADDRESS DEPOT COMMAND PARCEL...`.
use std::env;
use std::error::Error;

use courier::{Client, STATUSES};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [address, depot, command, parcels @ ..] = arguments.as_slice() else {
        return Err("usage: courier-client ADDRESS DEPOT COMMAND PARCEL...".into());
    };
    let mut client = Client::connect(address)?;
    for parcel in parcels {
        client.send(depot, command, parcel.as_bytes())?;
    }
    if command == "notify" {
        return Ok(());
    }
    for _ in parcels {
        let (id, status, text) = client.receive()?;
        println!("{id} {} {text}", STATUSES.get(usize::from(status)).unwrap_or(&"UNKNOWN"));
    }
    Ok(())
}
