//! A server that can do two things at a time, and is asked for sixty.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use meltemi_tests::dubbo::Frame;
use meltemi_tests::{Client, Setup, each_envoy, eventually};
use serde_json::json;

const THREADPOOL_EXHAUSTED: u8 = 100;

/// A client keeps so many calls in flight.
const IN_FLIGHT: usize = 60;

/// How many calls the server works on at a time.
const WORKERS: usize = 2;

/// A server with few workers: what they do not work on waits for them.
struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<VecDeque<(Arc<Mutex<TcpStream>>, Frame)>>,
    came: Condvar,
    /// How long a worker takes for a call, in milliseconds.
    time: AtomicU64,
    in_flight: AtomicUsize,
    /// The most since that was asked last.
    most: AtomicUsize,
    answered: AtomicUsize,
}

impl Server {
    /// Threads end with the test's process.
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let own = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (shared, stream) = (own.clone(), stream.unwrap());
                thread::spawn(move || shared.read(stream));
            }
        });
        let server = Self { address, shared };
        server.hire(WORKERS, Duration::from_millis(20));
        server
    }

    /// So many more workers begin, and each takes so long for a call from now on.
    fn hire(&self, workers: usize, time: Duration) {
        self.shared.time.store(time.as_millis() as u64, Ordering::Relaxed);
        for _ in 0..workers {
            let shared = self.shared.clone();
            thread::spawn(move || shared.work());
        }
    }

    /// The most calls that it has at a time, from now until it has answered so many.
    fn most(&self, answers: usize) -> usize {
        let answered = self.shared.answered.load(Ordering::Relaxed);
        self.shared.most.store(0, Ordering::Relaxed);
        eventually("the server answers", || {
            (self.shared.answered.load(Ordering::Relaxed) >= answered + answers).then_some(())
        });
        self.shared.most.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn read(&self, mut stream: TcpStream) {
        let writer = Arc::new(Mutex::new(stream.try_clone().unwrap()));
        while let Ok(Some(frame)) = Frame::read(&mut stream) {
            let in_flight = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(in_flight, Ordering::Relaxed);
            self.queue.lock().unwrap().push_back((writer.clone(), frame));
            self.came.notify_one();
        }
    }

    fn work(&self) {
        loop {
            let queue = self.queue.lock().unwrap();
            let mut queue = self.came.wait_while(queue, |queue| queue.is_empty()).unwrap();
            let (stream, frame) = queue.pop_front().unwrap();
            drop(queue);
            thread::park_timeout(Duration::from_millis(self.time.load(Ordering::Relaxed)));
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            let answer = Frame::response(frame.id, &"done".into()).bytes();
            let _ = std::io::Write::write_all(&mut *stream.lock().unwrap(), &answer);
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Keeps so many calls of a client in flight until it `is_over`, and counts those that are `refused`.
fn keep_calling(address: SocketAddr, refused: &AtomicUsize, is_over: &AtomicBool) {
    let mut client = Client::connect(address);
    (0..IN_FLIGHT as u64).for_each(|id| client.send(&Frame::request(id, "work", "x")));
    let mut waiting = IN_FLIGHT;
    while waiting > 0 {
        let answer = client.receive();
        waiting -= 1;
        if let Some(message) = answer.message() {
            assert_eq!(answer.status, THREADPOOL_EXHAUSTED, "{message}");
            assert!(message.contains("in good time"), "{message}");
            refused.fetch_add(1, Ordering::Relaxed);
            // Not at once: it would only be refused again.
            thread::park_timeout(Duration::from_millis(1));
        }
        if !is_over.load(Ordering::Relaxed) {
            client.send(&Frame::request(answer.id, "work", "x"));
            waiting += 1;
        }
    }
}

/// Stops the calls when the test ends, however that is.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_server_with_few_workers_is_not_flooded_and_gets_more_when_it_has_more() {
    each_envoy(|envoy| {
        let server = Server::start();
        let plain = json!({"protocol": "dubbo"});
        let setup = Setup::new().servers(server.address, server.address).service(&plain);
        let mut proxy = setup.start(envoy);
        let address = proxy.meltemi();
        let (refused, is_over) = (AtomicUsize::default(), AtomicBool::default());
        thread::scope(|scope| {
            let stop = Stop(&is_over);
            let caller = scope.spawn(|| keep_calling(address, &refused, &is_over));
            eventually("it is flooded", || (server.most(10) == IN_FLIGHT).then_some(()));
            assert_eq!(refused.load(Ordering::Relaxed), 0);

            let adaptive = json!({
                "minConcurrency": WORKERS, "minRttCalcRequestCount": 10, "minRttCalcInterval": "5s",
                "maxConcurrencyLimit": 100,
            });
            let service = json!({"protocol": "dubbo", "upstream": {"adaptiveConcurrency": adaptive}});
            proxy.update_service(&service);
            // More than while the least time is measured, and far fewer than are asked for.
            let fits = |limit: usize| limit > WORKERS && limit <= IN_FLIGHT / 2;
            eventually("it has about what it can work on", || {
                let most = server.most(30);
                let limit = proxy.metric("meltemi_concurrency_limit", &[]) as usize;
                (fits(most) && fits(limit)).then_some(())
            });
            assert!(refused.load(Ordering::Relaxed) > 0);

            server.hire(IN_FLIGHT, Duration::from_millis(200));
            eventually("it has all calls", || (server.most(30) == IN_FLIGHT).then_some(()));
            drop(stop);
            caller.join().unwrap();
        });
        eventually("what was refused is counted", || {
            let counted = [
                proxy.metric("meltemi_concurrency_blocked_total", &[]),
                proxy.metric("meltemi_local_replies_total", &["reason=\"overloaded\""]),
            ];
            (counted == [refused.load(Ordering::Relaxed) as u64; 2]).then_some(())
        });
    });
}
