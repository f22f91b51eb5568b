//! UDP: queries for names reach the host, whichever server they are for. Everything else is
//! refused.

use std::io::{IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendmsg,
};

use super::{WithNetwork, packed, perl};

/// Sends a datagram, and prints the answer or the error.
fn ask(address: &str, port: u16, text: &str) -> String {
    let (family, to) = packed(address, port);
    perl(&format!(
        "socket(my $s, {family}, SOCK_DGRAM, 0) or die $!; connect($s, {to}) or die $!; \
         send($s, \"{text}\", 0); alarm 20; \
         my $got; print defined recv($s, $got, 999, 0) ? $got : $!"
    ))
}

/// Answers each datagram with the same text, and each query for a name with an address.
fn serve(socket: &UdpSocket) {
    let socket = socket.try_clone().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            let mut answer = buffer[..length].to_vec();
            // A header is 12 bytes, in which the sixth is the number of questions.
            if length > 12 && answer[5] == 1 {
                let name = answer[12..].iter().position(|byte| *byte == 0).unwrap();
                answer.truncate(12 + name + 5);
                let is_ipv4 = answer[answer.len() - 3] == 1;
                answer[2..4].copy_from_slice(&[0x81, 0x80]);
                answer[6..12].copy_from_slice(&[0, u8::from(is_ipv4), 0, 0, 0, 0]);
                if is_ipv4 {
                    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 18, 0, 5]);
                }
            }
            let _ = socket.send_to(&answer, client);
        }
    });
}

#[tokio::test]
async fn queries_to_any_server_are_answered() {
    let Some(session) = WithNetwork::captured().await else { return };
    serve(session.listeners.dns.as_ref().unwrap());
    for address in ["8.8.8.8", "127.0.0.53", "10.0.0.2", "10.255.255.53", "127.0.0.1"] {
        assert_eq!(session.text(&ask(address, 53, "query")).await, "query", "{address}");
    }
    let resolve = "my ($error, @found) = getaddrinfo(\"name.test\", 80, {flags => AI_ADDRCONFIG, \
                   family => AF_INET, socktype => SOCK_STREAM}); \
                   print $error || inet_ntoa((unpack_sockaddr_in($found[0]{addr}))[1])";
    assert_eq!(session.text(&perl(resolve)).await, "198.18.0.5");
}

#[tokio::test]
async fn other_datagrams_are_refused_at_once() {
    let Some(session) = WithNetwork::captured().await else { return };
    let mut servers = vec![("8.8.8.8", 443), ("93.184.216.34", 123), ("169.254.169.254", 80)];
    if session.listeners.has_ipv6 {
        servers.push(("2001:db8::1", 443));
    }
    for (address, port) in servers {
        assert_eq!(session.text(&ask(address, port, "hello")).await, "Connection refused");
    }
}

#[tokio::test]
async fn an_answer_can_come_from_an_ipv6_server() {
    let Some(session) = WithNetwork::captured().await else { return };
    if !session.listeners.has_ipv6 {
        return;
    }
    let socket = session.listeners.dns.as_ref().unwrap().try_clone().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        loop {
            let mut space = nix::cmsg_space!(nix::libc::in6_pktinfo, nix::libc::in_pktinfo);
            let mut slices = [IoSliceMut::new(&mut buffer)];
            let received = recvmsg::<SockaddrIn6>(
                socket.as_raw_fd(),
                &mut slices,
                Some(&mut space),
                MsgFlags::empty(),
            );
            let Ok(received) = received else { return };
            let (length, client) = (received.bytes, received.address);
            let info = received.cmsgs().unwrap().find_map(|message| match message {
                ControlMessageOwned::Ipv6PacketInfo(info) => Some(info),
                _ => None,
            });
            let info = info.unwrap();
            let slices = [IoSlice::new(&buffer[..length])];
            let source = [ControlMessage::Ipv6PacketInfo(&info)];
            let flags = MsgFlags::empty();
            sendmsg(socket.as_raw_fd(), &slices, &source, flags, client.as_ref()).unwrap();
        }
    });
    for address in ["2001:4860:4860::8888", "fd00::53", "::1", "::ffff:8.8.8.8", "8.8.8.8"] {
        assert_eq!(session.text(&ask(address, 53, "query")).await, "query", "{address}");
    }
}
