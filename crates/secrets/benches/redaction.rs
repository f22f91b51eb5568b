//! Search for the values of variables in a text that has none of them.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use secrets::{Redactor, SecretString, Variables};

const TEXT_BYTES: usize = 16 << 20;

/// Returns random bytes (xorshift, Marsaglia 2003), the same in every run.
fn random(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
}

fn base64(seed: u64, length: usize) -> String {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    random(seed).take(length).map(|byte| char::from(digits[usize::from(byte % 64)])).collect()
}

/// Returns tokens of 40 characters.
fn tokens(count: u64) -> Variables {
    let mut variables = Variables::new();
    for number in 0..count {
        let value = SecretString::from(base64(number + 1, 40));
        variables.insert(format!("TOKEN_{number}"), value).unwrap();
    }
    variables
}

/// Returns the variables of an application: tokens, passwords that a shell quotes, a URL and keys
/// of several lines.
fn application() -> Variables {
    let mut variables = tokens(20);
    for number in 0..5 {
        let password = format!("{}$'\"{number}\\`", base64(100 + number, 12));
        variables.insert(format!("PASSWORD_{number}"), SecretString::from(password)).unwrap();
        let lines: Vec<String> = (0..26).map(|line| base64(1_000 * number + line, 64)).collect();
        let key = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            lines.join("\n")
        );
        variables.insert(format!("KEY_{number}"), SecretString::from(key)).unwrap();
    }
    let url = "postgres://ann:correct%20horse@db.example:5432/app?sslmode=require";
    variables.insert("DATABASE_URL", SecretString::from(url)).unwrap();
    variables
}

/// Returns lines like those of a log.
fn log() -> String {
    let mut text = String::with_capacity(TEXT_BYTES + 200);
    let mut bytes = random(7);
    let mut number = || u32::from(bytes.next().unwrap()) << 8 | u32::from(bytes.next().unwrap());
    while text.len() < TEXT_BYTES {
        let (first, second, third) = (number(), number(), number());
        text.push_str(&format!(
            "2026-11-05T12:{:02}:{:02}Z INFO request{{id={first:x} path=/api/items/{second}}}: \
             answered with status 200 in {third} us, from src/server/handlers.rs\n",
            first % 60,
            second % 60,
        ));
    }
    text
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("redact");
    for (text_name, text) in [("a log", log()), ("base64", base64(999_999, TEXT_BYTES))] {
        group.throughput(Throughput::Bytes(text.len() as u64));
        let mut short = tokens(30);
        short.insert("PIN", SecretString::from("hunter")).unwrap();
        let cases = [
            ("a token", tokens(1)),
            ("30 tokens", tokens(30)),
            ("30 tokens and a value of 6 bytes", short),
            ("an application", application()),
        ];
        for (name, variables) in cases {
            let redactor = Redactor::new(&variables);
            assert_eq!(redactor.find(text.as_bytes()), []);
            group.bench_function(format!("{text_name} with the variables of {name}"), |bencher| {
                bencher.iter(|| redactor.redact(black_box(&text)).len());
            });
        }
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
