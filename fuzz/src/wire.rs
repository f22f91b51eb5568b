//! The message of a command: init reads any bytes without a panic, and reads what was written.

#![no_main]

#[expect(dead_code, reason = "a plan has more types")]
mod encoder;
#[expect(dead_code, reason = "the other target reads plans")]
mod init;

// The decoders name these modules from the root of init.
use init::{body, reader, sys};

use body::Body;
use encoder::Encoder;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    decode_and_encode(input);
    encode_and_decode(input);
});

/// Reads the input as a message.
fn decode_and_encode(input: &[u8]) {
    let Ok(Body { flags, shell, directory, command, count, mut variables }) = Body::read(input)
    else {
        return;
    };
    assert!(count <= input.len(), "memory for the variables is bounded by the message");
    let mut again = Encoder::default();
    again.u32(flags);
    [shell, directory, command].into_iter().for_each(|text| again.text(text.bytes()));
    again.count(count);
    for _ in 0..count {
        let Ok(variable) = variables.text() else { return };
        again.text(variable.bytes());
    }
    assert_eq!(again.rest(input), variables.0);
}

/// Writes a message whose texts are the lines of the input, and reads it.
fn encode_and_decode(input: &[u8]) {
    let texts: Vec<&[u8]> = input.split(|byte| matches!(byte, 0 | b'\n')).collect();
    let [shell, directory, command, variables @ ..] = texts.as_slice() else { return };
    let mut message = Encoder::default();
    message.u32(7);
    [shell, directory, command].into_iter().for_each(|text| message.text(text));
    message.count(variables.len());
    variables.iter().for_each(|text| message.text(text));
    let Ok(mut body) = Body::read(&message.0) else { panic!("the message is valid") };
    let read = [body.shell, body.directory, body.command].map(sys::CStr::bytes);
    assert_eq!((body.flags, read), (7, [*shell, *directory, *command]));
    assert_eq!(body.count, variables.len());
    for variable in variables {
        assert!(body.variables.text().is_ok_and(|read| read.bytes() == *variable));
    }
    assert!(body.variables.0.is_empty());
    // A message that is cut off is refused, or lacks variables.
    let whole = message.0.len() - 1;
    let cut = &message.0[..input.len() % (whole + 1)];
    let is_complete = Body::read(cut)
        .is_ok_and(|mut body| (0..body.count).all(|_| body.variables.text().is_ok()));
    assert!(!is_complete);
}
