//! The same requests directly, through a gate, and through the proxy of srt, in turn, so that other
//! load affects them all. Prints a table in Markdown: medians, and the differences from the direct
//! way.
//!
//! `SRT_PACKAGE_DIR` names the npm package of srt. Its column is empty if the package is absent.

#[path = "side_by_side/srt.rs"]
mod srt;

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use egress::{Gate, Listeners, Network, Resolver};
use policy::{NetworkConfig, NetworkPolicy};
use srt::Srt;

/// Size of a small answer.
const SMALL: usize = 1024;
/// Name of the thread of the gate.
const GATE_THREAD: &str = "gate";
/// Number of sessions whose memory is measured.
const SESSIONS: usize = 1000;

/// Name of the origin for a gate, which never connects to the loopback by its address.
const NAME: &str = "origin.test";

/// Way of a client to the origin.
struct Way {
    address: SocketAddr,
    is_proxy: bool,
    /// The origin's name and port.
    origin: String,
    header: String,
}

/// Work of a client. Returns the time of one request.
type Work = fn(&Way, count: usize) -> Duration;

/// A resolver for which every name is on the loopback.
#[derive(Debug)]
struct Here;

#[async_trait]
impl Resolver for Here {
    async fn resolve(&self, _name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec![Ipv4Addr::LOCALHOST.into()])
    }
}

fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let origin_address = start_origin();
    let (of_gate, of_others) =
        (format!("{NAME}:{}", origin_address.port()), origin_address.to_string());
    let (gate, _stop) = start_gate(&of_gate);
    let srt = Srt::start(&of_others);
    let way = |address, origin: &str, header: &str| Way {
        address,
        is_proxy: address != origin_address,
        origin: origin.to_owned(),
        header: header.to_owned(),
    };
    let mut ways = vec![way(origin_address, &of_others, ""), way(gate, &of_gate, "")];
    ways.extend(srt.as_ref().map(|srt| way(srt.proxy, &of_others, &srt.header)));

    println!("| what | directly | through a gate | through srt's proxy |\n|---|---|---|---|");
    let rounds = if is_test { 1 } else { 41 };
    let works: [(&str, Work, usize); 3] = [
        ("1 KB over a connection that is kept, a URL as the target", kept_requests, 200),
        ("1 KB over a connection that is kept, in a tunnel", kept_in_tunnel, 200),
        ("a new connection with a tunnel, and 1 KB", new_tunnels, 20),
    ];
    for (what, work, count) in works {
        let times = measure(&ways, work, rounds, if is_test { 2 } else { count });
        let medians = times.iter().map(|times| median(times).as_secs_f64() * 1e6);
        row(what, &medians.collect::<Vec<_>>(), |direct, time| match direct {
            None => format!("{time:.0} µs"),
            Some(direct) => format!("{:+.0} µs", time - direct),
        });
    }
    let megabytes = if is_test { 1 } else { 1024 };
    for (what, work) in [
        ("1 GB of HTTP in a tunnel", download as Work),
        ("1 GB of another protocol in a tunnel", download_opaque),
    ] {
        large_row(what, &ways, work, rounds.min(7), megabytes);
    }
    sessions(if is_test { 10 } else { SESSIONS }, srt.as_ref());
}

/// Runs the work in every way in turn. Returns the times of each way.
fn measure(ways: &[Way], work: Work, rounds: usize, count: usize) -> Vec<Vec<Duration>> {
    let mut times = vec![Vec::new(); ways.len()];
    for _ in 0..rounds {
        for (way, times) in ways.iter().zip(&mut times) {
            times.push(work(way, count));
        }
    }
    times
}

/// Prints the row of a download, with ratios to the direct way of the same round, and a row with
/// the processor time of the gate.
fn large_row(what: &str, ways: &[Way], work: Work, rounds: usize, megabytes: usize) {
    let before = gate_time();
    let times = measure(ways, work, rounds, megabytes);
    let spent = (gate_time() - before).as_secs_f64() / rounds as f64;
    let ratio = |way: &Vec<Duration>| {
        let pairs = way.iter().zip(&times[0]);
        let mut ratios: Vec<f64> =
            pairs.map(|(time, direct)| time.as_secs_f64() / direct.as_secs_f64()).collect();
        ratios.sort_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    };
    let direct = median(&times[0]).as_secs_f64() * megabytes as f64;
    let numbers: Vec<f64> = [direct].into_iter().chain(times[1..].iter().map(ratio)).collect();
    row(what, &numbers, |direct, number| match direct {
        None => format!("{number:.2} s"),
        Some(_) => format!("× {number:.2}"),
    });
    println!("| processor time of the gate for it | – | {spent:.2} s | – |");
}

/// Prints a row. `show` gets the direct number in the columns after it.
fn row(what: &str, numbers: &[f64], show: impl Fn(Option<f64>, f64) -> String) {
    let cell = |at: usize| match numbers.get(at) {
        Some(number) => show((at > 0).then_some(numbers[0]), *number),
        None => "–".to_owned(),
    };
    println!("| {what} | {} | {} | {} |", cell(0), cell(1), cell(2));
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times[times.len() / 2]
}

/// Prints the cost of many sessions. A process with srt has one policy, and so one session.
fn sessions(count: usize, srt: Option<&Srt>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    let gate = Gate::builder().build().unwrap();
    let before = resident_bytes();
    let mut times = Vec::new();
    let networks: Vec<Network> = (0..count)
        .map(|_| {
            let listeners = Listeners::new()
                .proxy(TcpListener::bind("127.0.0.1:0").unwrap())
                .transparent(TcpListener::bind("127.0.0.1:0").unwrap())
                .dns(UdpSocket::bind("127.0.0.1:0").unwrap());
            let policy = compile(&["index.example:443"]);
            let started = Instant::now();
            let network = gate.open(listeners, policy, Arc::new(())).unwrap();
            times.push(started.elapsed());
            network
        })
        .collect();
    let each = resident_bytes().saturating_sub(before) / count as u64;
    let of_srt = srt.map_or("–".to_owned(), |srt| format!("{} MB", srt.resident_bytes >> 20));
    println!("| memory of a session, {count} in one process | – | {} KB | {of_srt} |", each >> 10);
    println!(
        "| giving a session its network, with the listeners open | – | {:.0} µs | – |",
        median(&times).as_secs_f64() * 1e6
    );
    drop(networks);
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

fn compile(hosts: &[&str]) -> NetworkPolicy {
    let mut settings = NetworkConfig::default();
    settings.allowed_domains = hosts.iter().map(|host| (*host).to_owned()).collect();
    NetworkPolicy::compile(&settings).unwrap()
}

/// Starts a gate with one session on a thread of its own. It stops when the sender is dropped.
fn start_gate(host: &str) -> (SocketAddr, mpsc::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = mpsc::channel::<()>();
    let policy = compile(&[host, "127.0.0.1"]);
    let thread = std::thread::Builder::new().name(GATE_THREAD.to_owned());
    let gate = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let gate = Gate::builder().resolver(Arc::new(Here)).build().unwrap();
            let listeners = Listeners::new().proxy(listener);
            let network = gate.open(listeners, policy, Arc::new(())).unwrap();
            let _ = tokio::task::spawn_blocking(move || stopped.recv()).await;
            network.close().await;
        });
    };
    thread.spawn(gate).unwrap();
    (address, stop)
}

/// Returns the processor time of the gate's thread so far.
fn gate_time() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten().map(|task| task.path());
    let read = |file: std::path::PathBuf| std::fs::read_to_string(file).unwrap_or_default();
    let mut own = tasks.filter(|task| read(task.join("comm")).trim() == GATE_THREAD);
    // A new thread has its name only once it runs.
    let times = own.next().map(|task| read(task.join("schedstat"))).unwrap_or_default();
    Duration::from_nanos(times.split(' ').next().unwrap_or_default().parse().unwrap_or_default())
}

/// Starts a server with a thread for each connection. A request for `/N` gets N KB.
fn start_origin() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

fn serve(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let piece = vec![b'x'; 1 << 20];
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(count) => head.extend_from_slice(&buffer[..count]),
            }
        }
        let text = String::from_utf8_lossy(&head);
        let path = text.split(' ').nth(1).unwrap_or_default();
        let kilobytes: usize = path.rsplit('/').next().unwrap().parse().unwrap();
        let mut left = kilobytes * 1024;
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {left}\r\n\r\n").into_bytes();
        let first = left.min(SMALL);
        answer.extend_from_slice(&piece[..first]);
        left -= first;
        if stream.write_all(&answer).is_err() {
            return;
        }
        while left > 0 {
            let count = left.min(piece.len());
            if stream.write_all(&piece[..count]).is_err() {
                return;
            }
            left -= count;
        }
        head.clear();
    }
}

fn connect(way: &Way) -> TcpStream {
    let stream = TcpStream::connect(way.address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Connects to the origin, in a tunnel if there is a proxy.
fn connect_through(way: &Way) -> TcpStream {
    let mut stream = connect(way);
    if way.is_proxy {
        let Way { origin, header, .. } = way;
        let request = format!("CONNECT {origin} HTTP/1.1\r\nHost: {origin}\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let (head, rest) = read_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200") && rest == 0, "{head}");
    }
    stream
}

/// Reads a head. Returns it, and the number of bytes after it that were read too.
fn read_head(stream: &mut TcpStream) -> (String, usize) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 64 * 1024];
    loop {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the connection ended: {}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&buffer[..count]);
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = bytes.len() - at - 4;
            bytes.truncate(at);
            return (String::from_utf8(bytes).unwrap(), rest);
        }
    }
}

/// Sends a request, and reads its answer of some kilobytes.
fn exchange(stream: &mut TcpStream, request: &str, kilobytes: usize) {
    stream.write_all(request.as_bytes()).unwrap();
    let (head, mut got) = read_head(stream);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut buffer = [0; 256 * 1024];
    while got < kilobytes * 1024 {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the answer ended after {got} bytes");
        got += count;
    }
}

fn kept_requests(way: &Way, count: usize) -> Duration {
    let mut stream = connect(way);
    let origin = &way.origin;
    let target = if way.is_proxy { format!("http://{origin}/1") } else { "/1".to_owned() };
    let request = format!("GET {target} HTTP/1.1\r\nHost: {origin}\r\n{}\r\n", way.header);
    timed(count, || exchange(&mut stream, &request, 1))
}

fn kept_in_tunnel(way: &Way, count: usize) -> Duration {
    let mut stream = connect_through(way);
    let request = format!("GET /1 HTTP/1.1\r\nHost: {}\r\n\r\n", way.origin);
    timed(count, || exchange(&mut stream, &request, 1))
}

fn new_tunnels(way: &Way, count: usize) -> Duration {
    let request = format!("GET /1 HTTP/1.1\r\nHost: {}\r\n\r\n", way.origin);
    timed(count, || exchange(&mut connect_through(way), &request, 1))
}

/// Reads some megabytes. The time is that of one.
fn download(way: &Way, megabytes: usize) -> Duration {
    let request = format!("GET /{} HTTP/1.1\r\nHost: {}\r\n\r\n", megabytes * 1024, way.origin);
    timed_download(way, &request, megabytes)
}

/// The same after a first byte that no request of HTTP has, so that a gate passes all bytes on.
fn download_opaque(way: &Way, megabytes: usize) -> Duration {
    timed_download(way, &format!("\0 /{} \r\n\r\n", megabytes * 1024), megabytes)
}

fn timed_download(way: &Way, request: &str, megabytes: usize) -> Duration {
    let mut stream = connect_through(way);
    let started = Instant::now();
    exchange(&mut stream, request, megabytes * 1024);
    started.elapsed() / u32::try_from(megabytes).unwrap()
}

fn timed(count: usize, mut work: impl FnMut()) -> Duration {
    let started = Instant::now();
    for _ in 0..count {
        work();
    }
    started.elapsed() / u32::try_from(count).unwrap()
}
