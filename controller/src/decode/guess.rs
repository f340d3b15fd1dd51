use std::rc::Rc;

use meltemi_codecs::{Codec, Peer, Step};

/// The protocols that bytes may be of.
pub type Protocols = [Rc<dyn Codec>];

/// What is known of the protocol of some bytes.
pub enum Guess {
    /// It is this one.
    Is(Rc<dyn Codec>),
    /// More bytes will tell.
    Open,
    /// None reads them.
    None,
}

/// The bytes after which there is nothing to wait for.
const ENOUGH: usize = 64 << 10;

/// Finds the protocol that reads the most of what the sides of a connection have sent, each from its start. Who sent the
/// bytes is told by the bytes themselves where the connection does not say it.
pub fn guess(protocols: &Protocols, max_len: usize, sides: &[(Option<Peer>, &[u8])]) -> Guess {
    if let [one] = protocols {
        return Guess::Is(one.clone());
    }
    let mut best: Option<(usize, &Rc<dyn Codec>)> = None;
    let mut is_open = false;
    for codec in protocols {
        let read = |(from, bytes): &(Option<Peer>, &[u8])| frames(&**codec, max_len, *from, bytes);
        // None if one of the sides starts with what the protocol never has.
        let Some(bytes) = sides.iter().map(read).sum::<Option<usize>>() else { continue };
        if bytes == 0 {
            is_open = true;
        } else if best.is_none_or(|(most, _)| bytes > most) {
            best = Some((bytes, codec));
        }
    }
    let has_enough = sides.iter().any(|(_, bytes)| bytes.len() >= ENOUGH);
    match best {
        Some((_, codec)) => Guess::Is(codec.clone()),
        None if is_open && !has_enough => Guess::Open,
        None => Guess::None,
    }
}

/// How many bytes from the start are complete frames.
fn frames(codec: &dyn Codec, max_len: usize, from: Option<Peer>, bytes: &[u8]) -> Option<usize> {
    let mut read = 0;
    while let Some(rest) = bytes.get(read..)
        && !rest.is_empty()
    {
        let from = from.unwrap_or_else(|| codec.sender(rest));
        match codec.split(from, rest, max_len) {
            Ok(Step::Frame(frame)) => read += frame.len,
            Ok(Step::NeedMore { .. }) => break,
            Err(_) if read == 0 => return None,
            Err(_) => break,
        }
    }
    Some(read)
}
