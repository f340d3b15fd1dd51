//! The private protocol of the tutorial: a module of its own, on a stock Envoy, with the files of `examples/courier`.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::thread;

use courier::{ANSWER, Client, Courier as Codec, serve, write, write_request};
use meltemi::envoy::{Config, Envoy as Process, Launch, PlanFile};
use meltemi_tests::java::refusing_address;
use meltemi_tests::{Envoy, each_envoy, eventually, files, halves};
use tempfile::TempDir;

/// A depot that serves until the tests end.
fn depot(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || serve(&listener, name, |_| {}));
    address
}

struct Courier {
    process: Process,
    plan: PlanFile,
    text: String,
    _folder: TempDir,
}

fn start(envoy: &Envoy, north: u16, south: u16) -> Courier {
    let example = files::root().join("examples/courier");
    let parse = |file: &str| Config::parse(file, &fs::read_to_string(example.join(file)).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut discovery = parse("plan.yaml");
    let text = PlanFile::plan(&mut discovery).unwrap().to_owned();
    assert_eq!(discovery.move_file("courier.wasm", files::courier_module()), 1);
    let mut plan = PlanFile::new(&folder.path().join("plan.yaml"), discovery).unwrap();
    plan.write(&text).unwrap();
    let mut bootstrap = parse("envoy.yaml");
    assert_eq!(bootstrap.move_file("./plan.yaml", plan.path()), 1);
    bootstrap.leave_all_ports();
    bootstrap.move_ports(&BTreeMap::from([(7701, north), (7702, south)]));
    let config = folder.path().join("envoy.yaml");
    bootstrap.write(&config).unwrap();
    let args = ["--concurrency", "1", "-l", "warning"].map(Into::into).to_vec();
    let launch = Launch { binary: envoy.binary.clone(), config, folder: folder.path().to_owned(), args };
    Courier { process: Process::start(&launch).unwrap(), plan, text, _folder: folder }
}

impl Courier {
    fn connect(&self) -> Client {
        Client::connect(self.process.listener("parcels").unwrap()).unwrap()
    }
}

/// How many of `count` pipelined requests each depot answered, and that each answer is its request's own.
fn answers(client: &mut Client, place: &str, command: &str, count: usize) -> BTreeMap<String, usize> {
    let sent: Vec<u32> =
        (0..count).map(|i| client.send(place, command, format!("parcel {i}").as_bytes()).unwrap()).collect();
    let mut by_depot = BTreeMap::new();
    let mut open: BTreeMap<u32, usize> = sent.into_iter().zip(0..).collect();
    for _ in 0..count {
        let (id, status, text) = client.receive().unwrap();
        let number = open.remove(&id).expect("an answer to a request that is open");
        assert_eq!(status, 0, "{text}");
        let (depot, rest) = text.split_once(": ").unwrap();
        assert_eq!(rest, format!("{command} parcel {number} at {place}"));
        *by_depot.entry(depot.to_owned()).or_default() += 1;
    }
    by_depot
}

#[test]
fn a_private_protocol_is_routed_balanced_and_changed_live() {
    each_envoy(|envoy| {
        let mut courier = start(envoy, depot("north").port(), depot("south").port());
        let mut client = courier.connect();
        // The first calls find the depots.
        eventually("both depots serve one client", || {
            (answers(&mut client, "hill/1", "track", 20).len() == 2).then_some(())
        });
        let delivered = answers(&mut client, "harbour/3", "deliver", 50);
        assert_eq!(delivered, BTreeMap::from([("south".to_owned(), 50)]));

        let text = courier.text.replace(r#""exact": "deliver""#, r#""exact": "track""#);
        courier.plan.write(&text).unwrap();
        eventually("the new plan is in force", || {
            let tracked = answers(&mut client, "harbour/3", "track", 10);
            (tracked == BTreeMap::from([("south".to_owned(), 10)])).then_some(())
        });
        eventually("Envoy counts by depot and command", || {
            let filter = r"service=\.=harbour/3;\.;method=\.=deliver;\.;class=\.=success;\.;responses_total$";
            (courier.process.admin().sum(filter).unwrap() == 50).then_some(())
        });
    });
}

#[test]
fn a_large_parcel_leaves_while_it_comes() {
    each_envoy(|envoy| {
        let south = halves::Server::start();
        let courier = start(envoy, depot("north").port(), south.address.port());
        let parcel = vec![7; 4 << 20];
        let mut request = Vec::new();
        write_request(&mut request, 7, "harbour/3", "deliver", &parcel);
        let answer = |id: u64| {
            let mut answer = Vec::new();
            write(&mut answer, ANSWER, u32::try_from(id).unwrap(), 0, 0, &parcel);
            answer
        };
        south.exchange(&Codec, courier.process.listener("parcels").unwrap(), &request, answer);
    });
}

#[test]
fn a_private_protocol_gets_its_own_errors() {
    each_envoy(|envoy| {
        let courier = start(envoy, refusing_address().port(), refusing_address().port());
        let mut client = courier.connect();
        let id = client.send("harbour/3", "track", b"box").unwrap();
        let (answered, status, text) = client.receive().unwrap();
        assert_eq!((answered, courier::STATUSES[usize::from(status)]), (id, "UNAVAILABLE"), "{text}");
        assert!(text.starts_with("meltemi: cannot connect"), "{text}");
    });
}
