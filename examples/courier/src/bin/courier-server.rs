//! A depot: `courier-server NAME ADDRESS`.
use std::env;
use std::error::Error;
use std::net::TcpListener;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [name, address] = arguments.as_slice() else {
        return Err("usage: courier-server NAME ADDRESS".into());
    };
    let listener = TcpListener::bind(address)?;
    println!("{name} listens on {}", listener.local_addr()?);
    courier::serve(&listener, name, |text| println!("{text}"))?;
    Ok(())
}
