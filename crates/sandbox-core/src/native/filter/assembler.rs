//! Instructions of a seccomp program, and blocks of them (`Documentation/networking/filter.rst`).

/// One `struct sock_filter` (`linux/filter.h`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    value: u32,
}

impl Instruction {
    fn bytes(self) -> [u8; 8] {
        let (code, value) = (self.code.to_ne_bytes(), self.value.to_ne_bytes());
        [code[0], code[1], self.if_true, self.if_false, value[0], value[1], value[2], value[3]]
    }
}

pub(super) const LOAD: u16 = 0x20;
pub(super) const RETURN: u16 = 0x06;
pub(super) const AND: u16 = 0x54;
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const JUMP_AT_LEAST: u16 = 0x35;
pub(super) const JUMP_ANY_BIT: u16 = 0x45;

/// Offset of the arguments in `struct seccomp_data`, 8 bytes each.
const ARGUMENTS: u32 = 16;

pub(super) fn ret(value: u32) -> Instruction {
    Instruction { code: RETURN, if_true: 0, if_false: 0, value }
}

pub(super) fn and(value: u32) -> Instruction {
    Instruction { code: AND, if_true: 0, if_false: 0, value }
}

/// Loads the lower half of an argument: an `int`, or all of its flags.
pub(super) fn argument(position: u8) -> Instruction {
    load(ARGUMENTS + u32::from(position) * 8)
}

/// Loads the upper half of an argument.
pub(super) fn upper_half(position: u8) -> Instruction {
    load(ARGUMENTS + u32::from(position) * 8 + 4)
}

fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, if_true: 0, if_false: 0, value: offset }
}

pub(super) fn skip_if_equal(value: u32, count: u8) -> Instruction {
    Instruction { code: JUMP_EQUAL, if_true: count, if_false: 0, value }
}

pub(super) fn skip_unless_equal(value: u32, count: u8) -> Instruction {
    Instruction { code: JUMP_EQUAL, if_true: 0, if_false: count, value }
}

pub(super) fn skip_unless_any(bits: u32, count: u8) -> Instruction {
    Instruction { code: JUMP_ANY_BIT, if_true: 0, if_false: count, value: bits }
}

/// Blocks of instructions. Each is entered on a condition on the loaded number, and ends in a
/// return on every path.
#[derive(Debug, Default)]
pub(super) struct Assembler(Vec<Instruction>);

impl Assembler {
    /// Returns the program, with `verdict` for every call that no block has decided.
    pub(super) fn finish(mut self, verdict: Instruction) -> Vec<u8> {
        self.0.push(verdict);
        self.0.iter().flat_map(|instruction| instruction.bytes()).collect()
    }

    pub(super) fn load(&mut self, offset: u32) {
        self.0.push(load(offset));
    }

    pub(super) fn if_equal(&mut self, value: u32, body: &[Instruction]) {
        self.block(JUMP_EQUAL, value, body);
    }

    pub(super) fn if_at_least(&mut self, value: u32, body: &[Instruction]) {
        self.block(JUMP_AT_LEAST, value, body);
    }

    pub(super) fn unless_equal(&mut self, value: u32, body: &[Instruction]) {
        let if_true = distance(body);
        self.0.push(Instruction { code: JUMP_EQUAL, if_true, if_false: 0, value });
        self.0.extend_from_slice(body);
    }

    fn block(&mut self, code: u16, value: u32, body: &[Instruction]) {
        self.0.push(Instruction { code, if_true: 0, if_false: distance(body), value });
        self.0.extend_from_slice(body);
    }
}

fn distance(body: &[Instruction]) -> u8 {
    u8::try_from(body.len()).expect("blocks are short")
}
