//! As much Hessian 2 as test frames need: strings and binaries.

const CHUNK: usize = 0x8000;

/// Appends `text` as a Hessian string. Lengths are in UTF-16 units; the text must have none beyond the basic plane.
pub fn put_string(text: &str, out: &mut Vec<u8>) {
    let mut units: Vec<char> = text.chars().collect();
    while units.len() > CHUNK {
        let rest = units.split_off(CHUNK);
        out.push(0x52);
        out.extend((CHUNK as u16).to_be_bytes());
        out.extend(units.iter().collect::<String>().as_bytes());
        units = rest;
    }
    let len = units.len();
    match len {
        0..=31 => out.push(len as u8),
        32..=1023 => out.extend([0x30 + (len >> 8) as u8, len as u8]),
        _ => {
            out.push(0x53);
            out.extend((len as u16).to_be_bytes());
        }
    }
    out.extend(units.iter().collect::<String>().as_bytes());
}

/// Appends `bytes` as a Hessian binary.
pub fn put_binary(bytes: &[u8], out: &mut Vec<u8>) {
    let mut rest = bytes;
    while rest.len() > CHUNK {
        let (chunk, after) = rest.split_at(CHUNK);
        out.push(0x41);
        out.extend((CHUNK as u16).to_be_bytes());
        out.extend(chunk);
        rest = after;
    }
    out.push(0x42);
    out.extend((rest.len() as u16).to_be_bytes());
    out.extend(rest);
}

/// Takes a Hessian string off the front of `input`; `None` if there is none.
pub fn take_string(input: &mut &[u8]) -> Option<String> {
    let mut text = String::new();
    loop {
        let (tag, rest) = input.split_first()?;
        *input = rest;
        let (len, last) = match *tag {
            0..=31 => (usize::from(*tag), true),
            0x30..=0x33 => (usize::from(tag - 0x30) << 8 | take(input, 1)?, true),
            0x53 => (take(input, 2)?, true),
            0x52 => (take(input, 2)?, false),
            _ => return None,
        };
        let ends = || (0..=input.len()).filter(|end| input.get(*end).is_none_or(|byte| byte & 0xc0 != 0x80));
        let end = ends().nth(len)?;
        let (chunk, rest) = input.split_at_checked(end)?;
        text.push_str(std::str::from_utf8(chunk).ok()?);
        *input = rest;
        if last {
            return Some(text);
        }
    }
}

/// Takes a Hessian binary in the forms that [`put_binary`] writes off the front of `input`.
pub fn take_binary(input: &mut &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let (tag, rest) = input.split_first()?;
        *input = rest;
        let len = take(input, 2)?;
        let (chunk, rest) = input.split_at_checked(len)?;
        bytes.extend_from_slice(chunk);
        *input = rest;
        match *tag {
            0x41 => {}
            0x42 => return Some(bytes),
            _ => return None,
        }
    }
}

fn take(input: &mut &[u8], width: usize) -> Option<usize> {
    let (bytes, rest) = input.split_at_checked(width)?;
    *input = rest;
    Some(bytes.iter().fold(0, |value, byte| value << 8 | usize::from(*byte)))
}
