//! A thousand sessions of one gate, each with its own policy and connections.

use std::sync::Arc;

use egress::{Gate, Limits};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use crate::fixture::{Names, Origin, Session, exactly, policy, rest, soon};

const SESSIONS: usize = 1000;
/// Descriptors of a session: a listener and the socket for DNS.
const LISTENERS: usize = 2;
/// The variable with the number of connections that each session has at once, up to the default
/// limit of 256. Without it, each has one.
const CONNECTIONS: &str = "EGRESS_CROWD_CONNECTIONS";
/// Sessions that share a server, which has too few ports for the connections of all.
const SESSIONS_OF_SERVER: usize = 50;

/// Use of a tunnel by its client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Busy,
    Idle,
}

fn connections() -> usize {
    std::env::var(CONNECTIONS).map_or(1, |text| text.parse().unwrap())
}

/// Returns the number of descriptors that the test needs: it holds both ends of each connection,
/// and the gate has two, and two pipes for the one that is in use.
fn needed() -> usize {
    SESSIONS * (LISTENERS + 4 * connections() + 4) + 2000
}

fn name(number: usize) -> String {
    format!("s{number}.test")
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

async fn answer(session: &Session, host: &str, port: u16) -> String {
    let mut client = session.connect().await;
    let request = format!("GET http://{host}:{port}/ HTTP/1.0\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    rest(&mut client).await
}

/// Runs alone, in its own process, because it counts descriptors and tasks.
#[test]
fn each_of_a_thousand_sessions_has_its_own_policy_and_leaves_nothing_behind() {
    const ALONE: &str = "EGRESS_CROWD_ALONE";
    let needed = u64::try_from(needed()).unwrap();
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // The superuser can raise the maximum.
    let maximum = maximum.map(|maximum| maximum.max(needed));
    let raised = Rlimit { current: current.map(|current| current.max(needed)), maximum };
    if setrlimit(Resource::Nofile, raised).is_err() {
        return testkit::skipped("a thousand sessions", &format!("ulimit -Hn {needed}"));
    }
    if std::env::var_os(ALONE).is_none() {
        let name =
            "crowd::each_of_a_thousand_sessions_has_its_own_policy_and_leaves_nothing_behind";
        let output = testkit::rerun(name).env(ALONE, "1").output().unwrap();
        return testkit::assert_passed(&output);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(crowd());
}

async fn crowd() {
    let origin = Origin::hello().await;
    let mut servers = Vec::new();
    for _ in 0..SESSIONS / SESSIONS_OF_SERVER {
        let server = Origin::serving(|mut stream, _| async move {
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
        servers.push(server.await);
    }
    let here: &[&[&str]] = &[&["127.0.0.1"]];
    let known: Vec<String> = (0..SESSIONS).map(name).collect();
    let answers: Vec<_> = known.iter().map(|name| (name.as_str(), here)).collect();
    let names = Names::new(&answers);
    let mut limits = Limits::default();
    // The gate counts all connections as if they were in use.
    limits.max_descriptors = 2 * needed();
    let resolver = Arc::clone(&names);
    let gate = Gate::builder().resolver(resolver).limits(limits).build().unwrap();
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let (opened_before, tasks_before) = (descriptors(), tasks());

    let open = |own: &String| {
        Session::open_at(&gate, policy(&[own, "127.0.0.1"], &[]), Arc::clone(&names))
    };
    let sessions: Vec<Session> = known.iter().map(open).collect();
    assert_eq!(descriptors() - opened_before, SESSIONS * LISTENERS);

    let port = origin.port;
    for (number, session) in sessions.iter().enumerate() {
        let own = answer(session, &known[number], port).await;
        assert!(own.contains(" 200 "), "{own}");
        let other = answer(session, &known[(number + 1) % SESSIONS], port).await;
        assert!(other.contains(" 403 "), "{other}");
        assert_eq!(session.wait_for_events(2).await.len(), 2);
    }

    // They close while each has a tunnel that is in use, and perhaps others that are not.
    let mut tunnels = Vec::new();
    for (number, (session, own)) in sessions.iter().zip(&known).enumerate() {
        let to = format!("{own}:{}", servers[number / SESSIONS_OF_SERVER].port);
        for _ in 1..connections() {
            tunnels.push((session.tunnel(&to).await, Use::Idle));
        }
        let mut tunnel: TcpStream = session.tunnel(&to).await;
        tunnel.write_all(b"\0").await.unwrap();
        assert_eq!(exactly(&mut tunnel, 1).await, b"\0");
        tunnels.push((tunnel, Use::Busy));
    }
    assert_eq!(tunnels.len(), SESSIONS * connections());
    let clients = tunnels.into_iter().map(|(mut tunnel, usage)| {
        tokio::spawn(async move {
            let mut bytes = [0; 512];
            while usage == Use::Idle || tunnel.write_all(&bytes).await.is_ok() {
                if !matches!(tunnel.read(&mut bytes).await, Ok(1..)) {
                    break;
                }
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    for (number, session) in sessions.into_iter().enumerate() {
        match number % 2 {
            0 => soon(session.network.close()).await,
            _ => drop(session.network),
        }
    }
    for client in clients {
        soon(client).await.unwrap();
    }
    soon(async {
        while descriptors() > opened_before || tasks() > tasks_before {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
}
