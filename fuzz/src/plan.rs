//! The plan of a session: whatever its bytes are, init reads it without a panic, and exactly as it
//! would be written.

#![no_main]

mod encoder;
#[expect(dead_code, reason = "the other target reads messages")]
mod init;

// The decoders name these modules from the root of init.
use init::{plan, reader, sys};

use encoder::Encoder;
use plan::{Head, RuleLists, read_operation};
use reader::{Reader, Span};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut reader = Reader(input);
    let Ok(head) = Head::read(&mut reader) else { return };
    assert_eq!(encoded(&head).rest(input), reader.0);
    let Ok(count) = reader.u32() else { return };
    for _ in 0..count {
        let before = reader.0;
        let Ok((operation, argument, path)) = read_operation(&mut reader) else { return };
        let mut again = Encoder::default();
        again.u32(operation);
        again.u32(argument);
        again.text(path.bytes());
        assert_eq!(again.rest(before), reader.0);
    }
    let at = input.len() - reader.0.len();
    let Ok(lists) = RuleLists::read(input, at) else { return };
    let mut again = Encoder::default();
    let RuleLists { watched, names, paths, patterns, zones } = lists;
    for list in [watched, names, paths, patterns, zones] {
        write_texts(&mut again, list, input);
    }
    again.rest(reader.0);
});

fn encoded(head: &Head<'_>) -> Encoder {
    let mut again = Encoder::default();
    [head.tier, head.max_pid, head.private_files].into_iter().for_each(|word| again.u32(word));
    again.list(head.limits, 20);
    again.u32(head.bypass_tag);
    head.secret.into_iter().for_each(|number| again.u64(number));
    again.list(head.init_filter, 8);
    again.list(head.worker_filter, 8);
    again.text(head.group.path.bytes());
    again.u64(head.group.max_memory_bytes);
    again.u32(head.group.max_processes);
    again.u64(head.group.max_processor_us);
    again.count(head.settings.iter().count());
    for setting in head.settings.iter() {
        again.u32(setting.flag);
        again.text(setting.path.bytes());
        again.text(setting.value.bytes());
    }
    again
}

fn write_texts(again: &mut Encoder, list: Span, file: &[u8]) {
    again.count(list.of(file).count());
    list.of(file).for_each(|text| again.text(text));
}
