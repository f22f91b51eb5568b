//! The transparent listener: connections that the kernel captured on their way elsewhere.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use policy::Host;
use tokio::net::TcpStream;

use crate::connect;
use crate::dns;
use crate::event::{Outcome, Via};
use crate::flow::Cut;
use crate::http::{self, Scope};
use crate::judge::{Content, Target};
use crate::relay::{self, HTTP_PORT, Opening};
use crate::session::Session;
use crate::terminate;
use crate::tunnel;

/// Time for the first byte of a client whose refusal could be written in its protocol.
const PATIENCE: Duration = Duration::from_millis(500);

const DNS_PORT: u16 = 53;
const SSH_PORT: u16 = 22;
/// A port whose clients always speak first, as on that of HTTP.
const TLS_PORT: u16 = 443;

/// Serves a connection whose destination was `original`.
pub(crate) async fn serve(
    session: &Arc<Session>,
    cut: &Arc<Cut>,
    client: TcpStream,
    original: SocketAddr,
) {
    let host = Host::from(original.ip());
    let target = Target::new(session, host, original.port(), Via::Transparent);
    let mut read = BytesMut::new();
    let content = terminate::content(session, &target);
    let judged = session.ask_and_judge(&target, content).await;
    if judged.is_err() && target.port == DNS_PORT && target.host.as_address().is_some() {
        // The same answers as over UDP, from every server.
        return dns::serve_stream(session, client).await;
    }
    if judged.is_err() || target.port == HTTP_PORT {
        let first = match target.port {
            HTTP_PORT | TLS_PORT => session.shared.limits.head_timeout,
            _ => PATIENCE,
        };
        let opening = relay::opening(&client, &mut read, session, target.port, Some(first)).await;
        if let Opening::Http(version) = opening {
            // Each request is judged, and refused in HTTP.
            let scope = Scope::Fixed(target, version);
            return http::serve(session, cut, client, read.freeze(), scope, None).await;
        }
        let silence = relay::judge_silence(&client, &opening, &read, target.port);
        if let (Ok(_), Err(denial)) = (&judged, silence) {
            session.record(&target, Outcome::Denied(denial.clone()));
            return relay::refuse_silence(&client, &read, &target, &denial).await;
        }
        if let Err(denial) = judged {
            session.record(&target, Outcome::Denied(denial.clone()));
            return match opening {
                Opening::Hello(contents) => {
                    terminate::explain_denied(session, client, read, &target, denial, &contents)
                        .await;
                }
                Opening::BadHello => {
                    relay::alert(&client);
                    relay::drain(&client).await;
                }
                _ => relay::refuse(&client, &read, &target, &denial).await,
            };
        }
        // A connection without a request, such as a spare one of a browser, leaves no record.
        let has_left = opening == Opening::Other && read.is_empty() && relay::has_left(&client);
        if has_left || opening == Opening::Gone {
            return;
        }
    }
    if content == Content::Terminated {
        return terminate::run(session, cut, client, read, target, None).await;
    }
    match connect::connect(session, &target, content, cut).await {
        Ok(upstream) => relay::run(session, cut, client, read.freeze(), upstream).await,
        Err(connect::Blocked::Denied(denial)) if target.port == TLS_PORT => {
            let limit = Some(session.shared.limits.head_timeout);
            match relay::opening(&client, &mut read, session, TLS_PORT, limit).await {
                Opening::Hello(contents) => {
                    terminate::explain_denied(session, client, read, &target, denial, &contents)
                        .await;
                }
                _ => {
                    relay::alert(&client);
                    relay::drain(&client).await;
                }
            }
        }
        Err(connect::Blocked::Denied(denial)) if target.port == SSH_PORT => {
            relay::opening(&client, &mut read, session, SSH_PORT, Some(PATIENCE)).await;
            relay::refuse(&client, &read, &target, &denial).await;
        }
        Err(_) => tunnel::reset(&client),
    }
}
