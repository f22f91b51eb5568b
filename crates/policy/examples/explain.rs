//! Prints the default policy's decision about each path or host on the command line:
//!
//! ```sh
//! cargo run -p policy --example explain -- /usr/bin/git /home/ann/.ssh/id_rsa example.com
//! ```

use std::path::Path;

use policy::{Access, Policy, PolicyError, Verdict};

fn main() -> Result<(), PolicyError> {
    let policy =
        Policy::session(Path::new("/srv/agents/s1")).home(Path::new("/home/ann")).build()?;
    let mut targets: Vec<String> = std::env::args().skip(1).collect();
    if targets.is_empty() {
        targets =
            ["/usr/bin/git", "/srv/agents/s1/notes.txt", "/home/ann/.ssh/id_rsa", "example.com"]
                .map(str::to_owned)
                .to_vec();
    }
    for target in &targets {
        println!("{target}");
        if target.starts_with('/') {
            print("read", &policy.explain(Path::new(target), Access::Read));
            print("write", &policy.explain(Path::new(target), Access::Write));
        } else {
            print("connect", &policy.explain_host(target, None));
        }
    }
    Ok(())
}

fn print(access: &str, verdict: &Verdict) {
    let decision = if verdict.allowed { "allowed" } else { "denied" };
    println!("  {access:<8}{decision}: {}", verdict.rule);
    if let Some(remedy) = &verdict.remedy {
        println!("          to allow it, {remedy}");
    }
}
