//! Dubbo requests made to be misunderstood: what reads them in order finds a call that is allowed, while a server that goes
//! on reading where an argument broke, or puts the names of services together from other parts, may find one that is not.

use crate::hessian::{put_binary, put_string};

/// The service that may be called.
pub const OPEN: &str = "org.meltemi.demo.Open";
/// The service that may not.
pub const SHUT: &str = "org.meltemi.demo.Shut";

const STRING: &str = "Ljava/lang/String;";
const OBJECT: &str = "Ljava/lang/Object;";
const CARD: &str = "Lorg/meltemi/demo/Card;";
const GENERIC: &str = "Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;";

/// Makes requests, the same ones for the same seed.
pub struct Forge(u64);

/// A request in Hessian 2, in the pieces that are forged.
struct Parts {
    /// Version of the protocol, path, version, method and parameter types.
    front: [Vec<u8>; 5],
    arguments: Vec<Vec<u8>>,
    /// The start of the attachments, their names and values, and what follows.
    map: Vec<u8>,
    attachments: Vec<(Vec<u8>, Vec<u8>)>,
    tail: Vec<u8>,
}

impl Parts {
    fn new(method: &str, types: &str, arguments: Vec<Vec<u8>>) -> Self {
        let pair = |name, value| (text(name), text(value));
        Self {
            front: ["2.0.2", OPEN, "0.0.0", method, types].map(text),
            arguments,
            map: b"H".to_vec(),
            attachments: vec![
                pair("path", OPEN),
                pair("interface", OPEN),
                pair("version", "0.0.0"),
                pair("generic", "true"),
            ],
            tail: b"Z".to_vec(),
        }
    }

    fn generic(method: &str, kind: &str) -> Self {
        let list = |class: &str, value: &str| [b"\x71".to_vec(), text(class), text(value)].concat();
        Self::new("$invoke", GENERIC, vec![text(method), list("[string", kind), list("[object", "bob")])
    }

    fn frame(&self, id: u64) -> Vec<u8> {
        let mut body = [self.front.concat(), self.arguments.concat(), self.map.clone()].concat();
        self.attachments.iter().for_each(|(name, value)| body.extend([&**name, value].concat()));
        body.extend(&self.tail);
        let header = [&[0xda, 0xbb, 0xc2, 0][..], &id.to_be_bytes(), &(body.len() as u32).to_be_bytes()];
        [&header.concat()[..], &body].concat()
    }
}

/// A call of `hello` that the server writes down as honest.
pub fn honest(id: u64) -> Vec<u8> {
    Parts::new("hello", STRING, vec![text("honest")]).frame(id)
}

/// A generic call of a method of `Open` with one argument, whose type is said to be `kind`.
pub fn generic(id: u64, method: &str, kind: &str) -> Vec<u8> {
    Parts::generic(method, kind).frame(id)
}

/// A call that is allowed, of over `size` bytes, with one that is not among the bytes of its argument.
pub fn smuggling(id: u64, size: usize) -> Vec<u8> {
    let mut inner = Parts::new("hello", STRING, vec![text("smuggled")]);
    inner.front[1] = text(SHUT);
    inner.attachments.truncate(0);
    let mut bytes = [b"\r\n", &*inner.frame(id)].concat();
    bytes.resize(size, 0);
    let mut argument = Vec::new();
    put_binary(&bytes, &mut argument);
    Parts::new("take", OBJECT, vec![argument]).frame(id)
}

fn text(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_string(text, &mut out);
    out
}

/// A string of these bytes, said to be so many units long.
fn raw_text(units: usize, bytes: &[u8]) -> Vec<u8> {
    [&[b'S', (units >> 8) as u8, units as u8], bytes].concat()
}

impl Forge {
    /// A forge for this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit.max(1)
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// The next request. Its front names an allowed call, unless that is what was forged.
    pub fn request(&mut self, id: u64) -> Vec<u8> {
        let mut parts = self.sound();
        for _ in 0..=self.below(3) {
            self.forge(&mut parts);
        }
        parts.frame(id)
    }

    fn sound(&mut self) -> Parts {
        let object = |forge: &mut Self| forge.object();
        match self.below(8) {
            0 => Parts::new("ping", "", Vec::new()),
            1 => Parts::new("hello", STRING, vec![text("bob")]),
            2 | 3 => Parts::new("take", OBJECT, vec![object(self)]),
            4 => Parts::new("keep", CARD, vec![card(&text("x"), b"\x91", b"N")]),
            5 => Parts::new("pair", &OBJECT.repeat(2), vec![object(self), object(self)]),
            6 => Parts::new("count", &format!("I{OBJECT}"), vec![b"\x97".to_vec(), object(self)]),
            _ => Parts::generic("hello", "java.lang.String"),
        }
    }

    fn object(&mut self) -> Vec<u8> {
        match self.below(6) {
            0 => text("a text"),
            1 => b"\x91".to_vec(),
            2 => [b"H".to_vec(), text("name"), text("value"), b"Z".to_vec()].concat(),
            3 => [b"\x7a".to_vec(), text("one"), text("two")].concat(),
            4 => b"\x23abc".to_vec(),
            _ => card(&text("x"), b"\x91", b"N"),
        }
    }

    fn forge(&mut self, parts: &mut Parts) {
        let trap = self.trap();
        match self.below(22) {
            // What breaks, and the trap behind it.
            0..=4 => {
                let broken = self.broken();
                let filler = self.object();
                let forged = match self.below(7) {
                    0 => [&b"H"[..], &broken, &trap, b"Z"].concat(),
                    1 => [&b"H"[..], &filler, &broken, &trap, b"NZ"].concat(),
                    2 => [&b"\x7a"[..], &broken, &trap].concat(),
                    3 => [&b"W"[..], &broken, &trap, b"Z"].concat(),
                    4 => card(&broken, &trap, b"N"),
                    5 => card(&trap, &broken, &trap),
                    _ => [&b"\x72\x04[int"[..], &trap, &filler].concat(),
                };
                self.put(parts, forged);
            }
            5 => self.put(parts, trap),
            // A text that the server gives up within.
            6 | 7 => {
                let lead: &[u8] =
                    self.one(&[b"\xf0", b"\xf0\x9f\x98\x80", b"\x80", b"\xff", b"\xc1", b"\xed"]);
                let bytes = [b"ab", lead, &trap].concat();
                let units = bytes.len() + 3 - self.below(7);
                self.put(parts, raw_text(units, &bytes));
            }
            8 => self.put(parts, [&[b'B', 0, trap.len() as u8], &*trap].concat()),
            9 => {
                let class =
                    self.one(&["java.io.InputStream", "java.lang.Integer", "java.util.Date", "no.Such"]);
                self.put(parts, [b"M".to_vec(), text(class), text("value"), trap, b"Z".to_vec()].concat());
            }
            // The service's name put together elsewhere.
            10 => {
                let port = "org.meltemi.demo.Shut:1.0:20880";
                let folded = ["Shut:1.0", "Shut:0.0.0", "Shut:", "Open:2.0"]
                    .map(|name| format!("org.meltemi.demo.{name}"));
                let grouped = ["grp/", "/"].map(|group| format!("{group}{SHUT}"));
                let names: Vec<&str> =
                    folded.iter().chain(&grouped).map(|name| &**name).chain([port]).collect();
                let name = self.one(&names);
                parts.front[1] = text(name);
                parts.front[2] = text(self.one(&["", "0.0.0", "*", "1.0"]));
                parts.attachments[0].1 = text(name);
                parts.attachments[2].1 = parts.front[2].clone();
            }
            11 => {
                parts.front[2] =
                    self.one(&[&b"N"[..], b"\x00", b"\x01*", b"\x03 2.", b"\x032.0", b"\x92"]).to_vec();
                parts.attachments[2].1 = self.one(&[&b"N"[..], b"\x00", b"\x032.0", b"\x92"]).to_vec();
            }
            12 => {
                let group = self.one(&["grp", "", "*", "/", "grp/"]);
                parts.attachments.push((self.name("group"), text(group)));
            }
            13 => {
                let at = self.below(parts.attachments.len() + 1);
                let pair = (self.name("path"), text(SHUT));
                parts.attachments.insert(at, pair);
            }
            14 => {
                let at = self.below(parts.attachments.len());
                let odd = self.broken();
                match self.below(3) {
                    0 => parts.attachments[at].0 = odd,
                    1 => parts.attachments[at].1 = odd,
                    _ => parts.attachments[at].1 = trap,
                }
            }
            15 => {
                let kind =
                    self.one(&["java.util.TreeMap", "java.io.InputStream", "no.Such", "", "java.util.Date"]);
                parts.map = [b"M".to_vec(), text(kind)].concat();
            }
            16 => match self.below(3) {
                0 => parts.tail.extend(trap),
                1 => {
                    parts.map = [&*trap, b"H"].concat();
                }
                _ => parts.map = b"Q\x90".to_vec(),
            },
            17 => {
                let end = parts.tail.len().saturating_sub(1);
                parts.tail.truncate(end);
                parts.attachments.push((text("last"), b"R\x00\x01a".to_vec()));
            }
            18 => {
                let types = self.one(&["L-;", "L;", "V", "[", "[[V", "Lno/Such;", "Q"]);
                let old = String::from_utf8_lossy(&parts.front[4][1..]).into_owned();
                parts.front[4] = text(&format!("{old}{types}"));
                self.put(parts, trap);
            }
            19 => {
                let bytes = parts.arguments.concat();
                let mut bytes = if bytes.is_empty() { trap } else { bytes };
                let at = self.below(bytes.len());
                bytes[at] = self.below(256) as u8;
                parts.arguments = vec![bytes];
            }
            20 => {
                let mut bytes = parts.arguments.concat();
                let at = self.below(bytes.len() + 1);
                bytes.splice(at..at, trap);
                parts.arguments = vec![bytes];
            }
            _ => {
                let method = self.one(&["erase", " erase", "erase ", "hello"]);
                let broken = self.broken();
                if let Some(first) = parts.arguments.first_mut() {
                    *first = if self.below(2) == 0 { text(method) } else { broken };
                }
                if self.below(2) == 0 {
                    parts.front[1] = self.name(OPEN);
                }
            }
        }
    }

    /// Puts a forged argument in the place of one, or behind the others.
    fn put(&mut self, parts: &mut Parts, argument: Vec<u8>) {
        let at = self.below(parts.arguments.len() + 1);
        match parts.arguments.get_mut(at) {
            Some(old) => *old = argument,
            None if parts.front[3] == text("ping") => {
                *parts = Parts::new("take", OBJECT, vec![argument]);
            }
            None => parts.arguments.push(argument),
        }
    }

    /// A map that names another service, or another version or group.
    fn trap(&mut self) -> Vec<u8> {
        let entries: &[(&str, &str)] = self.one(&[
            &[("path", SHUT)][..],
            &[("path", SHUT), ("version", "1.0")],
            &[("path", SHUT), ("group", "grp")],
            &[("version", "1.0"), ("group", "grp"), ("path", SHUT)],
            &[("version", "2.0")],
            &[("group", "grp")],
            &[("path", "org.meltemi.demo.Shut:1.0")],
        ]);
        let names: Vec<_> = entries.iter().map(|(name, _)| self.name(name)).collect();
        let values: Vec<_> = entries.iter().map(|(_, value)| self.name(value)).collect();
        let pairs = names.iter().zip(&values).flat_map(|(name, value)| [&**name, value]).collect::<Vec<_>>();
        let class =
            self.one(&["java.util.HashMap", "java.util.TreeMap", "org.meltemi.demo.Card", "no.Such", ""]);
        match self.below(6) {
            0..=2 => [b"H", &*pairs.concat(), b"Z"].concat(),
            3 => [b"M", &*text(class), &pairs.concat(), b"Z"].concat(),
            _ => {
                let count = 0x90 + names.len() as u8;
                let definition = [b"C", &*text(class), &[count], &names.concat()].concat();
                let tag: &[u8] = self.one(&[b"\x60", b"\x61", b"O\x90", b"O\x91"]);
                [&*definition, tag, &values.concat()].concat()
            }
        }
    }

    /// A string in one of its encodings.
    fn name(&mut self, name: &str) -> Vec<u8> {
        let (head, rest) = name.split_at(self.below(name.len()));
        match self.below(6) {
            0 => [&[0x30, name.len() as u8], name.as_bytes()].concat(),
            1 => raw_text(name.len(), name.as_bytes()),
            2 => [&[b'R', 0, head.len() as u8], head.as_bytes(), &text(rest)].concat(),
            3 => {
                let overlong = name.bytes().flat_map(|byte| [0xc0 | byte >> 6, 0x80 | byte & 0x3f]);
                raw_text(name.len(), &overlong.collect::<Vec<_>>())
            }
            _ => text(name),
        }
    }

    /// A value that a server may stop reading at, or read otherwise.
    fn broken(&mut self) -> Vec<u8> {
        let values: [&[u8]; 18] = [
            b"Q\xc8\x64",
            b"Q\xa0",
            b"M\xa5Z",
            b"U\xa5Z",
            b"\x6f",
            b"O\xaf",
            b"\x02\xf0\x9f\x98\x80",
            b"\x01\x80",
            b"\x01\xff",
            b"XI\xff\xff\xff\xff",
            b"M\x11java.lang.IntegerZ",
            b"\x71\x04[int\x01a",
            b"V\x05[long\x91\x01a",
            b"C\x07no.Such\x91\x01a\x60\x90",
            b"C\x0ejava.util.Date\x91\x05value\x60\x01a",
            b"J\x00\x00",
            b"\x40",
            b"A\x00\x02ab",
        ];
        self.one(&values).to_vec()
    }
}

/// A card, after the definition of its class.
fn card(path: &[u8], version: &[u8], next: &[u8]) -> Vec<u8> {
    let fields = ["path", "version", "next"].map(text).concat();
    let definition = [b"C", &*text("org.meltemi.demo.Card"), b"\x93", &*fields].concat();
    [&*definition, b"\x60", path, version, next].concat()
}
