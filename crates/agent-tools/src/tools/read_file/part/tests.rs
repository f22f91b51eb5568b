//! Parts of files of every kind, small and large.

use std::io::{Seek, SeekFrom, Write};

use super::super::image::tests::WHOLE;
use super::*;

fn file(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file
}

fn read_part(
    file: &File,
    part: FilePart,
    max_units: Option<usize>,
) -> Result<ReadFileOutput, String> {
    let path = RelativePath::parse("a/b.bin").unwrap();
    read(file, &path, part, max_units, Redaction::new(None)).map_err(|failure| match failure {
        Failure::File(error) => error.to_string(),
        Failure::NoSuchPart(problem) => problem,
    })
}

fn lines(first: usize, last: Option<usize>) -> FilePart {
    FilePart::Lines(LineRange { first, last })
}

fn bytes(start: u64, end: Option<u64>) -> FilePart {
    FilePart::Bytes(ByteRange { start, end })
}

#[test]
fn a_range_of_lines_is_cut_out_and_never_panics() {
    #[track_caller]
    fn check(content: &str, first: usize, last: Option<usize>, expected: &str, total: usize) {
        let output = read_part(&file(content.as_bytes()), lines(first, last), None).unwrap();
        assert_eq!((output.content.as_str(), output.total_lines), (expected, Some(total)));
        assert_eq!((output.next_line, output.next_byte), (None, None));
    }
    check("a\nb\nc\n", 2, Some(2), "b\n", 3);
    check("a\nb\nc", 2, None, "b\nc", 3);
    check("a\nb\nc", 3, Some(9), "c", 3);
    check("", 1, None, "", 0);
    check("\n\n", 2, Some(2), "\n", 2);
}

#[test]
fn a_range_that_the_file_does_not_have_is_an_error_with_the_number_of_lines() {
    let three = file(b"a\nb\nc");
    for (part, problem) in [
        (lines(0, Some(1)), "startLine must be at least 1; the file has 3 lines"),
        (lines(4, None), "startLine 4 is past the end; the file has 3 lines"),
        (lines(2, Some(1)), "endLine 1 is before startLine 2; the file has 3 lines"),
        (bytes(5, None), "startByte 5 is past the end; the file has 5 bytes"),
        (bytes(2, Some(2)), "endByte must be above startByte; the file has 5 bytes"),
    ] {
        let file = three.try_clone().unwrap();
        (&file).rewind().unwrap();
        assert_eq!(read_part(&file, part, None).unwrap_err(), problem);
    }
    let binary = read_part(&file(b"a\n\xff\n"), lines(1, None), None).unwrap_err();
    assert_eq!(binary, "it is not text; give a range of bytes instead of lines");
}

#[test]
fn a_long_text_is_shown_by_whole_lines_and_continues_there() {
    let text: String = (1..=100).map(|n| format!("line {n:03}\n")).collect();
    let (mut shown, mut part) = (String::new(), FilePart::Whole);
    loop {
        let output = read_part(&file(text.as_bytes()), part, Some(100)).unwrap();
        assert!(output.content.ends_with('\n') && output.content.len() <= 100, "{output:?}");
        assert_eq!(output.total_lines, Some(100));
        shown += &output.content;
        let Some(next) = output.next_line else { break };
        assert!(output.text().contains(&format!("100 lines; continue with startLine {next}]")));
        part = lines(next, None);
    }
    assert_eq!(shown, text);
    let all = read_part(&file(text.as_bytes()), FilePart::Whole, Some(900)).unwrap();
    assert_eq!((all.content, all.total_lines, all.next_line), (text, None, None));
}

#[test]
fn a_long_line_continues_by_bytes_and_no_character_is_lost() {
    let text = "é🎉x".repeat(50);
    let (mut shown, mut part) = (String::new(), FilePart::Whole);
    loop {
        let output = read_part(&file(text.as_bytes()), part, Some(7)).unwrap();
        assert!(output.encoding.is_none() && output.content.encode_utf16().count() <= 7);
        shown += &output.content;
        let Some(next) = output.next_byte else { break };
        assert!(output.text().contains("continue with startByte"), "{}", output.text());
        part = bytes(next, None);
    }
    assert_eq!(shown, text);
}

#[test]
fn binary_content_is_base64_in_parts() {
    let content: Vec<u8> = (0..100u8).map(|n| n | 0x80).collect();
    let (mut shown, mut part) = (Vec::new(), FilePart::Whole);
    loop {
        let output = read_part(&file(&content), part, Some(40)).unwrap();
        assert_eq!(output.media_type.as_deref(), Some("application/octet-stream"));
        assert!(output.content.len() <= 40 && output.text().contains("[base64 of "));
        shown.extend(STANDARD.decode(&output.content).unwrap());
        let Some(next) = output.next_byte else { break };
        part = bytes(next, None);
    }
    assert_eq!(shown, content);
    let whole = read_part(&file(&[0xff, 0x00]), FilePart::Whole, None).unwrap();
    assert_eq!((whole.content.as_str(), whole.encoding), ("/wA=", Some("base64")));
}

#[test]
fn an_image_is_recognised_by_its_content_and_returned_whole() {
    for (head, media_type) in WHOLE {
        let image = [head, &[0; 500]].concat();
        let output = read_part(&file(&image), FilePart::Whole, Some(100)).unwrap();
        assert_eq!(output.image(), Some(media_type));
        assert_eq!(output.media_type.as_deref(), Some(media_type));
        assert_eq!(STANDARD.decode(&output.content).unwrap(), image);
        let part = read_part(&file(&image), bytes(0, None), Some(100)).unwrap();
        assert_eq!(part.image(), None, "a part is no image");
        let cut = read_part(&file(&head[..head.len() - 1]), FilePart::Whole, None).unwrap();
        assert_eq!((cut.image(), cut.encoding), (None, Some("base64")), "{media_type}");
    }
    let mut large = vec![0; usize_of(MAX_IMAGE_BYTES) + 1];
    large[..4].copy_from_slice(b"\xff\xd8\xff\xe0");
    let output = read_part(&file(&large), FilePart::Whole, Some(100)).unwrap();
    assert_eq!((output.image(), output.content.len()), (None, 100));
}

#[test]
fn a_file_of_any_size_is_read_by_ranges() {
    let large = file(b"first\nsecond\n");
    large.set_len(MAX_READ_BYTES + 10).unwrap();
    large.write_all_at(b"\nlast", MAX_READ_BYTES + 5).unwrap();
    let whole = read_part(&large, FilePart::Whole, None).unwrap_err();
    assert!(whole.contains("at most 33554432 are read"), "{whole}");
    let second = read_part(&large, lines(2, Some(2)), Some(100)).unwrap();
    assert_eq!((second.content.as_str(), second.total_lines), ("second\n", Some(4)));
    let last = read_part(&large, lines(4, None), None).unwrap();
    assert_eq!((last.content.as_str(), last.next_line), ("last", None));
    let end = read_part(&large, bytes(MAX_READ_BYTES + 6, None), None).unwrap();
    assert_eq!((end.content.as_str(), end.total_bytes), ("last", Some(MAX_READ_BYTES + 10)));
    let first = read_part(&large, FilePart::Whole, Some(10)).unwrap();
    assert_eq!((first.content.as_str(), first.next_line), ("first\n", Some(2)));
}
