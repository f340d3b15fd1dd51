use crate::hpack::{Decoder, Encoder, Fields, List};

/// Decodes bytes as a run of header blocks. What could be decoded comes back the same through our own encoder, and no
/// list is over its limit.
pub fn fuzz_compression(data: &[u8]) {
    const LIMIT: usize = 4096;
    let (mut theirs, mut encoder, mut ours) = (Decoder::new(), Encoder::new(), Decoder::new());
    let (mut fields, mut again) = (Fields::default(), Fields::default());
    let mut rest = data;
    while let Some((&length, tail)) = rest.split_first() {
        let (block, tail) = tail.split_at(usize::from(length).min(tail.len()));
        rest = tail;
        if length == 0 {
            encoder.resize(block.len() * 7);
        }
        if theirs.decode(block, LIMIT, &mut fields).is_err() {
            return;
        }
        let size: usize = fields.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
        assert!(size <= LIMIT);
        let mut out = Vec::new();
        if size > 0 {
            encoder.begin(&mut out);
        }
        for (name, value) in fields.iter() {
            encoder.field(&mut out, name, value);
        }
        assert_eq!(ours.decode(&out, LIMIT, &mut again), Ok(List::Whole));
        assert!(fields.iter().eq(again.iter()));
    }
}
