//! SOCKS5 at the proxy listener.

use egress::Via;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::fixture::{Origin, Session, exactly, rest};

fn request(host: &str, port: u16) -> Vec<u8> {
    let length = u8::try_from(host.len()).unwrap();
    [&[5, 1, 0, 3, length], host.as_bytes(), &port.to_be_bytes()].concat()
}

/// Sends a greeting and a request, and returns the code of the reply.
async fn ask(session: &Session, request: &[u8]) -> (TcpStream, u8) {
    let mut client = session.connect().await;
    client.write_all(&[5, 2, 2, 0]).await.unwrap();
    assert_eq!(exactly(&mut client, 2).await, [5, 0]);
    client.write_all(request).await.unwrap();
    let reply = exactly(&mut client, 10).await;
    (client, reply[1])
}

#[tokio::test]
async fn an_allowed_name_is_connected() {
    let (session, origin) = (Session::open(), Origin::echo().await);
    let (mut client, code) = ask(&session, &request("ALLOWED.test", origin.port)).await;
    assert_eq!(code, 0);
    client.write_all(b"\0hi").await.unwrap();
    assert_eq!(exactly(&mut client, 3).await, b"\0hi");
    drop(client);
    assert_eq!(session.wait_for_events(1).await[0].via, Via::Socks);
}

#[tokio::test]
async fn a_denied_host_is_told_so() {
    let session = Session::open();
    for (denied, reply) in [
        (request("denied.test", 443), 2),
        (request("localhost", 443), 2),
        (vec![5, 1, 0, 1, 127, 0, 0, 1, 0, 80], 2),
        (vec![5, 1, 0, 1, 169, 254, 169, 254, 0, 80], 2),
        (vec![5, 2, 0, 1, 127, 0, 0, 1, 0, 80], 7),
        (vec![5, 1, 0, 9, 127, 0, 0, 1, 0, 80], 8),
        (request("missing.allowed.test", 443), 4),
    ] {
        let (mut client, code) = ask(&session, &denied).await;
        assert_eq!(code, reply, "{denied:?}");
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut client).await, "");
    }
    assert_eq!(session.events().len(), 5);
}

#[tokio::test]
async fn a_client_that_insists_on_a_password_is_refused() {
    let session = Session::open();
    let mut client = session.connect().await;
    client.write_all(&[5, 1, 2]).await.unwrap();
    assert_eq!(exactly(&mut client, 2).await, [5, 255]);
}
