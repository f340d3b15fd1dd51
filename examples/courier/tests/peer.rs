//! The sample server and client, without a proxy between them.
use std::net::TcpListener;
use std::sync::mpsc;
use std::sync::{LazyLock, Mutex};
use std::thread;

use courier::{Client, serve};

type Channel = (mpsc::Sender<String>, Mutex<mpsc::Receiver<String>>);

static NOTIFIED: LazyLock<Channel> = LazyLock::new(|| {
    let (sender, receiver) = mpsc::channel();
    (sender, Mutex::new(receiver))
});

#[test]
fn requests_are_answered_and_notices_delivered() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || serve(&listener, "north", |text| NOTIFIED.0.send(text.to_owned()).unwrap()));
    let mut client = Client::connect(address).unwrap();
    assert_eq!(client.send("a", "track", b"1").unwrap(), 1);
    client.send("a", "notify", b"2").unwrap();
    client.send("a", "deliver", b"bomb").unwrap();
    assert_eq!(client.receive().unwrap(), (1, 0, "north: track 1 at a".to_owned()));
    assert_eq!(client.receive().unwrap(), (3, 1, "north: deliver bomb at a".to_owned()));
    assert_eq!(NOTIFIED.1.lock().unwrap().recv().unwrap(), "north: notify 2 at a");
}
