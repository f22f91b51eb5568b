//! Questions on a terminal.

use super::origin::Origin;
use crate::terminal::{PROMPT, Setting, Terminal};

#[test]
fn the_user_is_asked_about_hosts_and_a_command_keeps_its_terminal() {
    let setting = Setting { engine: "native", is_ordinary: false };
    let Some(mut terminal) = Terminal::new(&setting) else { return };
    let origin = Origin::start();
    let program = terminal.sandbox.replace(" sandbox", "");
    let fixed = format!("--ask --resolve origin.test:80:127.0.0.1:{}", origin.port);
    let get = "for host in origin denied; do curl -sS http://$host.test/; done";
    terminal.enter(&format!("{program} bash {fixed} '{get}; curl -s http://origin.test/'"));
    terminal.expect("agent-tools: may commands connect to origin.test:80? [y/n] ");
    terminal.press("what\n");
    terminal.expect("origin.test:80? [y/n] ");
    terminal.press("y\n");
    terminal.expect("hello\r\n");
    terminal.expect("denied.test:80? [y/n] ");
    terminal.press("n\n");
    terminal.expect("Blocked by allowedDomains: denied.test:80");
    terminal.expect("hello\r\n");
    terminal.expect("denied: connect denied.test:80: the user denied it\r\n");
    terminal.expect(PROMPT);
    terminal.start(&format!("{fixed} -c true"));
    terminal.expect("the command has the terminal, so --ask cannot use it");
    terminal.expect(PROMPT);
}
