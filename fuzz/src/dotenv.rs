//! The parser of dotenv files, whose values are written and read again.

#![no_main]

use secrets::{DotenvSource, ExposeSecret as _};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(loaded) = DotenvSource::parse(text) else { return };
    let mut written = String::new();
    for (name, value) in loaded.variables.iter() {
        let value = value.expose_secret();
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
        written += &format!("export {name}=\"{escaped}\"\n");
    }
    let again = DotenvSource::parse(&written).expect("it is written in the format");
    let pairs = |loaded: &secrets::LoadedVariables| -> Vec<(String, String)> {
        let pairs = loaded.variables.iter();
        pairs.map(|(name, value)| (name.to_owned(), value.expose_secret().to_owned())).collect()
    };
    assert_eq!(pairs(&loaded), pairs(&again), "{written:?}");
});
