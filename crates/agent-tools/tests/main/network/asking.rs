//! Questions on a terminal.

use super::origin::Origin;
use crate::shell::Screen;
use crate::terminal::{PROMPT, Setting, Terminal};

/// A question that a command prints.
const IMITATION: &str = "agent-tools: may commands connect to good.test:80? [y/n] ";
/// The end of a question.
const ASKED: &str = "origin.test:80? [y/n] \u{1b}[0m";

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
    terminal.enter(&format!("{program} wrap --ask true"));
    terminal.expect("the command has the streams of this process, so --ask cannot use them");
    terminal.expect(PROMPT);
}

#[test]
fn a_command_can_neither_imitate_nor_cover_a_question() {
    let setting = Setting { engine: "native", is_ordinary: false };
    let Some(mut terminal) = Terminal::new(&setting) else { return };
    let origin = Origin::start();
    let program = terminal.sandbox.replace(" sandbox", "");
    let home = terminal.dir.path().join("home");
    let fixed = format!("--ask --resolve origin.test:80:127.0.0.1:{}", origin.port);
    // It draws for ever, and begins a title, which the next output would belong to.
    let script = format!(
        "while :; do printf \"\\e[?1049h\\e[8m{IMITATION}\\e]0;\"; sleep 0.01; done & \
         until [ -e go ]; do sleep 0.01; done; curl -s http://origin.test/; kill $!"
    );
    terminal
        .enter(&format!("AGENT_TOOLS_HOME={} {program} bash {fixed} '{script}'", home.display()));
    terminal.expect(IMITATION);
    // An answer to the imitation does not answer the question.
    terminal.press("y\n");
    std::fs::write(home.join("sessions/default/go"), "").unwrap();
    let shown = terminal.expect(ASKED);
    let own = &shown[shown.rfind(IMITATION).unwrap() + IMITATION.len()..];
    let reset = "\u{1b}]0;\u{18}\u{1b}\\\u{1b}7\u{1b}[?1049l";
    assert!(own.starts_with(reset), "{own:?}");
    assert!(own.contains("\r\n\u{1b}[J") && own.contains("\u{1b}[?25h"), "{own:?}");
    assert!(terminal.is_silent(), "the command has drawn over the question");
    terminal.press("n\n");
    terminal.expect("Blocked by allowedDomains: origin.test:80");
    terminal.expect("denied: connect origin.test:80: the user denied it\r\n");
    terminal.expect(PROMPT);
    assert_eq!(origin.connections(), 0);

    // The output of a pipe waits too, and a command that has ended needs no answer.
    let get = "echo before; curl -s http://origin.test/";
    terminal.enter(&format!("{program} bash {fixed} --timeout 2 '{get}' 2>&1 | cat"));
    terminal.expect("before\r\n");
    terminal.expect(ASKED);
    terminal.expect("timed out after 2 s");
    terminal.expect(PROMPT);
    let get = "-c 'curl -s http://origin.test/' < /dev/null 2>&1 | cat";
    terminal.enter(&format!("{program} sandbox {fixed} {get}"));
    terminal.expect(ASKED);
    terminal.press("y\n");
    terminal.expect("hello\r\n");
    terminal.expect(PROMPT);
}

#[test]
fn a_question_is_readable_whatever_a_command_has_drawn() {
    let origin = Origin::start();
    let options = format!("--ask --resolve origin.test:80:127.0.0.1:{}", origin.port);
    // The other screen, margins, characters for lines, hidden text, no cursor, an unfinished title.
    let drawn = "\\e[?1049h\\e[3;5r\\e[?6h\\e(0\\e[8m\\e[?25l\\e[4h\\e]0;";
    let command = format!("bash {options} 'printf \"{drawn}\"; curl -sSf http://origin.test/'");
    let Some(screen) = Screen::new(&command) else { return };
    screen.expect("agent-tools: may commands connect to origin.test:80? [y/n]");
    screen.press(&["y", "Enter"]);
    screen.expect("hello\ncode=0.");
}
