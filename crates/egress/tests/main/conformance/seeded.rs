//! A seeded table: hosts, ports, spellings and both lists, decided by the gate and by srt.

use policy::NetworkConfig;

use super::{Verdict, Work, absolute, answers_of_gate, answers_of_srt, connect, socks};
use crate::fixture::Origin;

const SEED: u64 = 83;
/// Number of the random settings, and of the requests under each.
const SETTINGS: usize = 150;
const REQUESTS: usize = 16;

/// Names that exist. Each spelling of a host is a request of its own.
const NAMES: &[&str] = &["a.test", "b.a.test", "c.b.a.test", "xa.test", "xn--bcher-kva.test"];
/// Destinations without ports: names in several spellings, addresses that no connection can be made
/// to, also inside IPv6 ones, and texts that are no host.
const HOSTS: &[&str] = &[
    "a.test",
    "A.TeSt",
    "a.test.",
    "b.a.test",
    "B.a.test.",
    "c.b.a.test",
    "xa.test",
    "xn--bcher-kva.test",
    "missing.a.test",
    "test",
    "224.0.0.1",
    "224.1",
    "0xe0.0.0.1",
    "3758096385",
    "[::ffff:224.0.0.1]",
    "[::ffff:e000:1]",
    "[ff02::1]",
    "[FF02:0::1]",
    "a..test",
    "a.test:1",
    "*.a.test",
];
/// Entries of both lists, with `P` for the port of the first origin.
const ENTRIES: &[&str] = &[
    "a.test",
    "A.Test",
    "b.a.test",
    "*.a.test",
    "*.B.a.test",
    "a.test:P",
    "*.a.test:P",
    "xa.test",
    "xn--bcher-kva.test",
    "224.0.0.1",
    "224.0.0.1:P",
    "[ff02::1]",
    "[FF02::1]:P",
    "[::ffff:224.0.0.1]",
    "127.0.0.1",
    "127.0.0.1:P",
    "localhost",
];
/// Entries of `deniedDomains` only.
const DENIED: &[&str] = &["*", "*:P", "192.0.2.1"];
/// Addresses that names lead to.
const ADDRESSES: &[&str] =
    &["127.0.0.1", "127.0.0.1", "127.0.0.1", "::1", "169.254.169.254", "::ffff:127.0.0.1"];

/// A generator of pseudo-random numbers (splitmix64).
struct Generator(u64);

impl Generator {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % count as u64).unwrap()
    }

    fn one<'l>(&mut self, list: &[&'l str]) -> &'l str {
        list[self.below(list.len())]
    }

    fn some(&mut self, list: &[&str], most: usize, port: u16) -> Vec<String> {
        let port = port.to_string();
        (0..self.below(most + 1)).map(|_| self.one(list).replace('P', &port)).collect()
    }
}

fn generate(random: &mut Generator, ports: [u16; 2]) -> Work {
    let mut network = NetworkConfig::default();
    network.allowed_domains = random.some(ENTRIES, 4, ports[0]);
    // Most names lead to loopback, which then has to be open.
    if random.below(4) > 0 {
        network.allowed_domains.push("127.0.0.1".to_owned());
    }
    network.denied_domains = random.some(&[ENTRIES, DENIED].concat(), 2, ports[0]);
    let name = |name: &&str| ((*name).to_owned(), vec![random.one(ADDRESSES).to_owned()]);
    let names = NAMES.iter().map(name).collect();
    let request = |_| {
        let port = ports[random.below(2)];
        let to = format!("{}:{port}", random.one(HOSTS));
        match random.below(3) {
            0 => connect(&to),
            1 => absolute(&to),
            _ => socks(&to),
        }
    };
    let requests = (0..REQUESTS).map(request).collect();
    Work { network, names, requests, ..Work::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_lists_decide_like_in_srt() {
    let origins = [Origin::hello().await, Origin::hello().await];
    let ports = origins.each_ref().map(|origin| origin.port);
    let mut random = Generator(SEED);
    let all: Vec<Work> = (0..SETTINGS).map(|_| generate(&mut random, ports)).collect();
    let Some(of_srt) = answers_of_srt(&all).await else { return };
    assert_eq!(of_srt.answers.len(), SETTINGS);
    let (mut wrong, mut reached, mut refused) = (Vec::new(), 0, 0);
    for (work, srt) in all.iter().zip(&of_srt.answers) {
        let gate = answers_of_gate(work).await;
        for ((request, gate), srt) in work.requests.iter().zip(&gate).zip(srt) {
            let verdicts = (Verdict::of(gate), Verdict::of(srt));
            match verdicts.0 {
                Verdict::Reached | Verdict::Failed => reached += 1,
                _ => refused += 1,
            }
            if verdicts.0 != verdicts.1 {
                let line = request.lines().next().unwrap();
                let (allowed, denied) =
                    (&work.network.allowed_domains, &work.network.denied_domains);
                wrong.push(format!("{verdicts:?} {line} {allowed:?} {denied:?} {:?}", work.names));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
    assert!(reached > 300 && refused > 300, "{reached} {refused}");
}
