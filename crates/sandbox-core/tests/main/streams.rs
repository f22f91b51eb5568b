//! Sockets and other descriptors as the standard streams of a command.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Stdio};

use sandbox_core::{CommandStatus, ExecError, ExecErrorKind};
use testkit::{rerun_as_ordinary_user, skipped};

use crate::fixture::{Fixture, fixture, spec, without_namespaces};

async fn run_on(
    fixture: &Fixture,
    command: &str,
    streams: [BorrowedFd<'_>; 3],
) -> Result<CommandStatus, ExecError> {
    let mut running = fixture.sandbox.start(&spec(command), streams).await?;
    Ok(running.wait().await?.status)
}

fn null() -> File {
    File::options().read(true).write(true).open("/dev/null").unwrap()
}

fn read(mut stream: impl Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn connections_carry_data_to_a_command_and_back() {
    if rustix::process::geteuid().is_root() && !without_namespaces() {
        let test = "streams::connections_carry_data_to_a_command_and_back";
        rerun_as_ordinary_user(test, "connections of an ordinary user");
    }
    let fixture = fixture();
    // Like those that node gives its children, one for each stream.
    let [input, output, errors] = [(); 3].map(|()| UnixStream::pair().unwrap());
    (&input.1).write_all(&b"x".repeat(100_000)).unwrap();
    input.1.shutdown(std::net::Shutdown::Write).unwrap();
    output.0.set_nonblocking(true).unwrap();
    let streams = [input.0.as_fd(), output.0.as_fd(), errors.0.as_fd()];
    let command = "cat; head -c 300000 /dev/zero; echo err >&2";
    let reading = std::thread::spawn(move || read(output.1).len());
    assert_eq!(run_on(&fixture, command, streams).await.unwrap(), CommandStatus::Exited(0));
    drop((input.0, output.0, errors.0));
    assert_eq!(reading.join().unwrap(), 400_000);
    assert_eq!(read(errors.1), "err\n");

    // One connection for all streams, like from inetd.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    client.write_all(b"hello\n").unwrap();
    let command = "read -r line; echo got $line; echo err >&2";
    let streams = [server.as_fd(); 3];
    assert_eq!(run_on(&fixture, command, streams).await.unwrap(), CommandStatus::Exited(0));
    drop(server);
    assert_eq!(read(&mut client), "got hello\nerr\n");
}

#[tokio::test]
async fn a_connection_keeps_what_a_command_has_not_read() {
    let fixture = fixture();
    let (mut peer, own) = UnixStream::pair().unwrap();
    peer.write_all(b"one\ntwo\nthree\n").unwrap();
    peer.write_all(&b"x\n".repeat(20_000)).unwrap();
    let out = null();
    let streams = [own.as_fd(), out.as_fd(), out.as_fd()];
    let command = "read -r a; read -r b; [ $a$b = onetwo ]";
    assert_eq!(run_on(&fixture, command, streams).await.unwrap(), CommandStatus::Exited(0));
    // Without input, a command that reads ends with its sandbox, and nothing is lost.
    let command = "read -r c; [ $c = three ]; for i in {1..5000}; do read -r x; done";
    assert_eq!(run_on(&fixture, command, streams).await.unwrap(), CommandStatus::Exited(0));
    drop(peer);
    assert_eq!(read(own), "x\n".repeat(15_000));
}

#[tokio::test]
async fn no_stream_leads_to_a_socket_of_the_host() {
    if rustix::process::geteuid().is_root() && !without_namespaces() {
        let test = "streams::no_stream_leads_to_a_socket_of_the_host";
        rerun_as_ordinary_user(test, "sockets of the host of an ordinary user");
    }
    let fixture = fixture();
    let path = fixture.root.join("host.sock");
    let messages = UnixDatagram::bind(&path).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let refused: [(OwnedFd, &str); 6] = [
        (UnixDatagram::unbound().unwrap().into(), "a socket of messages"),
        (UnixDatagram::pair().unwrap().0.into(), "a socket of messages"),
        (UdpSocket::bind("127.0.0.1:0").unwrap().into(), "a socket of messages"),
        (listener.try_clone().unwrap().into(), "a socket that accepts connections"),
        (
            UnixListener::bind(fixture.root.join("other.sock")).unwrap().into(),
            "a socket that accepts connections",
        ),
        (
            rustix::process::pidfd_open(
                rustix::process::getpid(),
                rustix::process::PidfdFlags::empty(),
            )
            .unwrap(),
            "a descriptor without data",
        ),
    ];
    let null = null();
    for (descriptor, what) in &refused {
        for number in 0..3 {
            let mut streams = [null.as_fd(); 3];
            streams[number] = descriptor.as_fd();
            let error = run_on(&fixture, "true", streams).await.unwrap_err();
            assert_eq!(error.kind(), ExecErrorKind::BadRequest);
            assert!(error.to_string().contains(what), "{error}");
        }
    }
    // A connection is no socket for the command, which could otherwise take its peer away.
    let attempt = format!(
        "perl -MSocket -e 'for my $fd (0..2) {{ open(my $s, \"+<&=\", $fd) or next; \
         connect($s, pack(q(Sx14), 0)); \
         print STDERR q(reached) if connect($s, pack_sockaddr_in({port}, inet_aton(q(127.0.0.1)))) \
         or connect($s, pack_sockaddr_un(q({path}))) \
         or send($s, q(x), 0, pack_sockaddr_un(q({path}))) }}'",
        port = address.port(),
        path = path.display()
    );
    messages.set_nonblocking(true).unwrap();
    listener.set_nonblocking(true).unwrap();
    let third = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = TcpStream::connect(third.local_addr().unwrap()).unwrap();
    let (unix, _peer) = UnixStream::pair().unwrap();
    for stream in [tcp.as_fd(), unix.as_fd()] {
        let (reader, writer) = std::io::pipe().unwrap();
        for streams in
            [[stream, null.as_fd(), writer.as_fd()], [null.as_fd(), stream, writer.as_fd()]]
        {
            run_on(&fixture, &attempt, streams).await.unwrap();
        }
        drop(writer);
        assert_eq!(read(reader), "");
    }
    assert!(listener.accept().is_err() && messages.recv(&mut [0]).is_err());
}

#[tokio::test]
async fn a_wrapped_command_has_no_socket_of_its_shell() {
    let fixture = fixture();
    let wrapped = |command: &str| fixture.sandbox.wrap_command(&spec(command)).unwrap();
    let run = |command: &str, input: OwnedFd| {
        let mut sh = Command::new("sh");
        sh.args(["-c", &wrapped(command)]).stdin(Stdio::from(input));
        let output = sh.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &errors)
    };
    let (mut peer, own) = UnixStream::pair().unwrap();
    peer.write_all(b"line\n").unwrap();
    let ran = run("read -r line; echo $line; [ -p /dev/stdin ]", own.into());
    assert_eq!(ran, (Some(0), "line\n".to_owned()));
    let (code, text) = run("true", UnixDatagram::unbound().unwrap().into());
    assert_eq!(code, Some(125));
    assert!(text.contains("standard input is a socket of messages"), "{text}");
    if Command::new("node").arg("--version").output().is_err() {
        return skipped("the streams of a child of node", "package nodejs");
    }
    let script = "const c = require('child_process').spawn('sh', ['-c', process.argv[1]]); \
                  c.stdout.pipe(process.stdout); c.stdin.end('from node\\n')";
    let node = Command::new("node").args(["-e", script, &wrapped("cat")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&node.stdout), "from node\n");
}
