//! Copies standard input to standard output and redacts the values of a dotenv file:
//!
//! ```sh
//! printenv | cargo run -p secrets --example redact -- .env
//! ```
//!
//! Without arguments, it redacts a text of its own.

use std::error::Error;
use std::io::{self, Read, Write};

use secrets::{DotenvSource, LoadedVariables, MapSource, Redactor, SecretString, VariableSource};

const TEXT: &[u8] = b"Bearer hunter2!\nGET /?token=hunter2%21\nAuthorization: Basic \
                      dXNlcjpodW50ZXIyIQ==\nDEBUG=1\n";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (loaded, mut input): (LoadedVariables, Box<dyn Read>) = match std::env::args().nth(1) {
        Some(path) => (DotenvSource::new(path).load().await?, Box::new(io::stdin())),
        None => {
            let entries = [("TOKEN", "hunter2!"), ("DEBUG", "1"), ("LD_PRELOAD", "/tmp/x.so")];
            let entries = entries.map(|(name, value)| (name, SecretString::from(value)));
            (MapSource::new(entries).load().await?, Box::new(TEXT))
        }
    };
    for skipped in &loaded.skipped {
        eprintln!("the variable {} was skipped: {}", skipped.name, skipped.reason);
    }
    let redactor = Redactor::new(&loaded.variables);
    for name in redactor.unredacted() {
        eprintln!("the value of {name} is too short to be redacted");
    }

    let (mut stream, mut output) = (redactor.stream(), Vec::new());
    let mut buffer = [0; 8192];
    loop {
        let length = input.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        stream.push(&buffer[..length], &mut output);
        io::stdout().write_all(&output)?;
        output.clear();
    }
    stream.finish(&mut output);
    io::stdout().write_all(&output)?;
    Ok(())
}
