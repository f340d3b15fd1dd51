//! From what was found to a layout that is proven.

use std::collections::BTreeMap;

use meltemi_codecs::Peer;
use meltemi_codecs::layout::Coding;
use meltemi_proxy::plan::{self, raw};

use super::find::Found;
use super::form::dotted;
use super::frames::Frames;
use super::framing::{self, Framing};
use super::heard::Talk;
use super::id::Place;
use super::name::{self, Candidate};
use super::part::{Part, Size};
use super::prove::{Proof, prove};
use super::write::{bits, coding, sure};

/// A layout, and the reasons for it.
#[derive(Debug)]
pub struct Proposal {
    /// The layout.
    pub layout: raw::Layout,
    /// Why a field of it is as it is.
    pub reasons: Vec<(&'static str, String)>,
    /// What was not found.
    pub missing: Vec<String>,
    /// What the layout makes of what was captured.
    pub proof: Proof,
    /// How many frames that is.
    pub frames: usize,
    /// How many bytes.
    pub bytes: usize,
    /// How many connections.
    pub connections: usize,
    /// How many connections have frames of another form.
    pub left_out: usize,
}

/// The fewest frames of each side that tell anything.
const FEWEST: usize = 3;

/// How much is written of what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Frames,
    Kinds,
    All,
}

/// Proposes a layout for what some connections to one server sent.
///
/// # Errors
///
/// There is too little, or no rule in it.
pub fn propose(talks: &[&Talk]) -> Result<Proposal, String> {
    let bytes: usize = talks.iter().map(|talk| talk.len()).sum();
    let Some((client, server)) = framing::find(talks) else {
        return Err(format!(
            "nothing near the start of frames says how long they are, in {bytes} bytes on {} connections: they may be too \
             few or of one length, have no length, or be compressed or encrypted",
            talks.len()
        ));
    };
    let frames = Frames::new(talks, (&client, &server));
    let [asked, answered] = [Peer::Client, Peer::Server].map(|from| frames.of(from).count());
    if asked < FEWEST || answered < FEWEST {
        return Err(format!(
            "{asked} requests and {answered} answers are too few to tell a rule from chance; capture {FEWEST} of each at least"
        ));
    }
    let found = Found::new(&frames, &client, &server);
    // What contradicts what else was found is left out, the least certain first.
    let mut refused = String::new();
    for level in [Level::All, Level::Kinds, Level::Frames] {
        let mut draft =
            Draft { found: &found, frames: &frames, layout: raw::Layout::default(), reasons: Vec::new() };
        draft.write(&client, &server, level)?;
        let Draft { layout, reasons, .. } = draft;
        let proven = plan::layout("learnt", &layout).map_err(|error| error.to_string());
        match proven.and_then(|codec| prove(&codec, &frames)) {
            // Parts that many requests do not have are none.
            Ok(proof) if proof.unread * 20 > proof.calls() => {
                refused = format!("{} of {} requests have other parts", proof.unread, proof.calls());
            }
            Ok(proof) => {
                let missing = missing(&found, &layout, &proof);
                return Ok(Proposal {
                    layout,
                    reasons,
                    missing,
                    proof,
                    frames: frames.all.len(),
                    bytes: frames.all.iter().map(|frame| frame.whole.len()).sum(),
                    connections: frames.connections,
                    left_out: frames.left_out,
                });
            }
            Err(why) => refused = why,
        }
    }
    Err(format!("frames were found, but no layout that reads them all: {refused}"))
}

/// What a layout may have and this one does not, and why.
fn missing(found: &Found, layout: &raw::Layout, proof: &Proof) -> Vec<String> {
    let mut missing = Vec::new();
    if let (None, Some((count, width))) = (&layout.id, &found.floating) {
        missing.push(format!(
            "id: {count} answers repeat a {} behind the parts, which has no fixed place that a layout could name",
            coding(*width)
        ));
    } else if layout.id.is_none() {
        missing.push("id: there is no number in a fixed place that answers repeat".to_owned());
    }
    if layout.id.is_none() {
        missing.push("sharing: without an id, a connection carries one call at a time; if servers answer in order, in-order allows more".to_owned());
    }
    if layout.kind.is_none() {
        missing.push("kind: nothing but the direction tells requests from answers".to_owned());
    }
    for (name, given, read) in
        [("service", &layout.service, proof.services), ("method", &layout.method, proof.methods)]
    {
        if given.is_none() || read == 0 {
            missing.push(format!("{name}: no text in a place that a layout can name looks like it"));
        }
    }
    missing.push("status, errorReply: what an answer says of its call is not learnt".to_owned());
    missing
}

/// A layout while it is written.
struct Draft<'a, 'f> {
    found: &'a Found,
    frames: &'a Frames<'f>,
    layout: raw::Layout,
    reasons: Vec<(&'static str, String)>,
}

impl Draft<'_, '_> {
    fn because(&mut self, field: &'static str, reason: String) {
        self.reasons.push((field, reason));
    }

    /// How sure one can be of what so many of all frames show.
    fn sure(&self, count: usize, all: usize) -> &'static str {
        sure(count, all, self.frames.lengths(Peer::Client))
    }

    fn write(&mut self, client: &Framing, server: &Framing, level: Level) -> Result<(), String> {
        let all = self.frames.all.len();
        if let Some((at, bytes)) = &self.found.magic {
            self.layout.magic = Some(hex(bytes));
            self.layout.magic_at = number(*at);
            self.because("magic", format!("{all} of {all} frames have it: {}", self.sure(all, all)));
        }
        self.layout.length = length(client);
        match client {
            Framing::Parts(..) => {
                self.because(
                    "header",
                    format!(
                        "{all} of {all} frames are as long as it and their parts: {}",
                        self.sure(all, all)
                    ),
                );
            }
            _ => self.because(
                "length",
                format!("{all} of {all} frames end where it says: {}", self.sure(all, all)),
            ),
        }
        self.write_id(level);
        self.write_kind(level);
        if level == Level::All || matches!(client, Framing::Parts(..)) {
            self.write_parts(level);
        }
        // An id in a message needs its part.
        let needs_part = matches!(&self.found.id, Some(id) if id.place.taken().is_none());
        if level == Level::Kinds && needs_part && self.layout.parts.is_empty() {
            self.layout.id = None;
        }
        if client != server {
            self.write_response(server)?;
        }
        if level == Level::All {
            self.write_names();
        }
        Ok(())
    }

    fn write_id(&mut self, level: Level) {
        let Some(id) = self.found.id.as_ref().filter(|_| level > Level::Frames) else { return };
        let (answers, servers) = (id.pairing.answers(), id.pairing.of_servers);
        self.layout.id = Some(self.place(&id.place));
        self.layout.id_copies = match level {
            Level::All => self.found.copies.iter().map(|copy| self.place(copy)).collect(),
            _ => Vec::new(),
        };
        let sure = match id.is_lowest {
            true => "likely, and more than its lowest byte, if it was never over 255",
            false => self.sure(answers, servers),
        };
        self.because("id", format!("{answers} of {servers} answers repeat that of a request: {sure}"));
        if !self.layout.id_copies.is_empty() {
            self.because("idCopies", "every frame says the id here too".to_owned());
        }
    }

    fn write_kind(&mut self, level: Level) {
        let is_written = |kind: &&super::kind::Kind| {
            level > Level::Frames && (level == Level::All || kind.place.taken().is_some())
        };
        let Some(kind) = self.found.kind.as_ref().filter(is_written) else { return };
        let place = self.place(&kind.place);
        let value = |value: u64| u32::try_from(value).ok();
        self.layout.kind = Some(raw::Kind {
            at: place.at,
            coding: place.coding,
            part: place.part,
            path: place.path,
            mask: (kind.mask != u64::MAX).then(|| value(kind.mask)).flatten(),
            request: kind.request.and_then(|(found, _)| value(found)),
            one_way: kind.one_way.and_then(|(found, _)| value(found)),
            response: kind.response.and_then(|(found, _)| value(found)),
            heartbeat: kind.heartbeat.and_then(|(asked, ..)| value(asked)),
            heartbeat_reply: kind.heartbeat.and_then(|(_, reply, _)| value(reply)),
            ..raw::Kind::default()
        });
        let counts = [
            (kind.request, "requests with an answer"),
            (kind.response, "answers"),
            (kind.one_way, "requests without an answer"),
            (kind.heartbeat.map(|(asked, _, count)| (asked, count)), "signs of life"),
        ];
        let told: Vec<String> = counts
            .iter()
            .filter_map(|(found, what)| {
                found.map(|(value, count)| format!("{} in {count} {what}", bits(value)))
            })
            .collect();
        let least = counts.iter().filter_map(|(found, _)| found.map(|(_, count)| count)).min().unwrap_or(0);
        let lengths = self.frames.lengths(Peer::Client);
        // Calls that are never answered may be of one kind that is always lost.
        let lengths = match kind.one_way {
            Some(_) => lengths.min(self.found.classes.unanswered_lengths(self.frames)),
            None => lengths,
        };
        self.because("kind", format!("{}: {}", told.join(", "), sure(least, least, lengths)));
        if let Some(reply) = self.heartbeat_reply() {
            self.layout.heartbeat_reply = Some(reply);
            self.because("heartbeatReply", "what the server answered, with the id in its place".to_owned());
        }
    }

    /// The answer to signs of life as the server gave it.
    fn heartbeat_reply(&self) -> Option<String> {
        self.found.kind.as_ref()?.heartbeat?;
        let (_, reply) = self.found.classes.heartbeat()?;
        let frame = self.frames.all.get(reply)?;
        let Some(Place::Header(at, width)) = self.found.id.as_ref().map(|id| &id.place) else { return None };
        let base = frame.whole.len() - frame.bytes.len();
        let (before, rest) = frame.whole.split_at_checked(base + at)?;
        let (_, after) = rest.split_at_checked(width.least_width())?;
        let pieces = [hex(before), format!("{{id:{}}}", coding(*width)), hex(after)];
        Some(pieces.into_iter().filter(|piece| !piece.is_empty()).collect::<Vec<_>>().join(" "))
    }

    fn write_parts(&mut self, level: Level) {
        let parts = &self.found.parts;
        let used = match self.layout.length {
            // Parts that nothing is in are bytes like others.
            Some(_) => self.used_parts(),
            None => parts.all.len(),
        };
        self.layout.parts =
            (0..used).filter_map(|place| Some(self.part(parts.all.get(place)?, place, level))).collect();
        if used == 0 {
            return;
        }
        self.layout.header = Some(number(parts.header));
        let calls = self.found.requests(self.frames).len();
        let read = self.found.requests(self.frames);
        let read = read.iter().filter(|frame| parts.split(frame.bytes).is_some()).count();
        self.because("parts", format!("{read} of {calls} requests have them: {}", self.sure(read, calls)));
    }

    /// How many parts have something that is named.
    fn used_parts(&self) -> usize {
        let names = &self.found.names;
        let of_names = [&names.service, &names.method].into_iter().flatten().filter_map(|candidate| {
            match candidate.place {
                name::Place::Part(part) | name::Place::Entry(part, _) | name::Place::Tag(part, ..) => {
                    Some(part + 1)
                }
                name::Place::Number(..) => None,
            }
        });
        let ids = self.found.id.iter().map(|id| &id.place).chain(&self.found.copies);
        let kinds = self.found.kind.iter().map(|kind| &kind.place);
        let of_ids = ids.chain(kinds).filter(|place| place.taken().is_none()).map(|_| self.message() + 1);
        let open = self.found.parts.all.iter().position(|part| part.shape.form != raw::Form::Text);
        of_names.chain(of_ids).chain(open.map(|place| place + 1)).max().unwrap_or(0)
    }

    /// The part that is protobuf.
    fn message(&self) -> usize {
        let is_message = |part: &Part| part.shape.form == raw::Form::Protobuf;
        self.found.parts.all.iter().position(is_message).unwrap_or(0)
    }

    fn part(&self, part: &Part, place: usize, level: Level) -> raw::Part {
        let form = if level == Level::All { part.shape.form } else { raw::Form::Bytes };
        let is_open = matches!(form, raw::Form::Map | raw::Form::Tlv);
        raw::Part {
            name: self.part_name(place),
            length: match part.size {
                Size::Header(at, width) => {
                    Some(raw::Length { at: number(at), coding: coding(width), plus: 0 })
                }
                _ => None,
            },
            prefix: match part.size {
                Size::Prefix(width) => Some(coding(width)),
                _ => None,
            },
            form,
            separator: part.shape.separator.filter(|_| form == raw::Form::Pairs).map(str::to_owned),
            size: part.shape.size.filter(|_| is_open).map(coding),
            ..raw::Part::default()
        }
    }

    fn part_name(&self, place: usize) -> String {
        let names = &self.found.names;
        let is = |candidate: &Option<Candidate>| matches!(candidate, Some(Candidate { place: name::Place::Part(part), .. }) if *part == place);
        match () {
            () if is(&names.service) => "service".to_owned(),
            () if is(&names.method) => "method".to_owned(),
            () => format!("part{}", place + 1),
        }
    }

    fn write_response(&mut self, server: &Framing) -> Result<(), String> {
        let has_value = self.layout.kind.as_ref().is_some_and(|kind| kind.response.is_some());
        if !has_value {
            return Err("answers have other lengths than requests, and nothing in their headers tells them apart, which a \
                        layout needs"
                .to_owned());
        }
        let parts = match server {
            Framing::Parts(_, lengths) => lengths
                .iter()
                .enumerate()
                .map(|(place, (at, width))| raw::Part {
                    name: self.part_name(place),
                    length: Some(raw::Length { at: number(*at), coding: coding(*width), plus: 0 }),
                    ..raw::Part::default()
                })
                .collect(),
            _ => Vec::new(),
        };
        let header = match server {
            Framing::Parts(header, _) => Some(number(*header)),
            _ => None,
        };
        self.layout.response = Some(raw::Response { header, length: length(server), parts });
        let count = self.frames.of(Peer::Server).count();
        self.because(
            "response",
            format!(
                "{count} of {count} answers end where this says: {}",
                sure(count, count, self.frames.lengths(Peer::Server))
            ),
        );
        Ok(())
    }

    fn write_names(&mut self) {
        let names = &self.found.names;
        let calls = self.found.requests(self.frames).len().min(name::MOST_FRAMES);
        let mut attributes = BTreeMap::new();
        for (field, candidate) in [("service", &names.service), ("method", &names.method)] {
            let Some(candidate) = candidate else { continue };
            let attribute = match &candidate.place {
                name::Place::Part(_) => None,
                name::Place::Entry(part, path) => Some(raw::Attribute {
                    part: Some(self.part_name(*part)),
                    path: Some(path.clone()),
                    ..raw::Attribute::default()
                }),
                name::Place::Tag(part, tag, width) => Some(raw::Attribute {
                    part: Some(self.part_name(*part)),
                    path: Some(tag.clone()),
                    coding: Some(coding(*width)),
                    ..raw::Attribute::default()
                }),
                name::Place::Number(at, width) => Some(raw::Attribute {
                    at: Some(number(*at)),
                    coding: Some(coding(*width)),
                    ..raw::Attribute::default()
                }),
            };
            attributes.extend(attribute.map(|attribute| (field.to_owned(), attribute)));
            let seen: Vec<&str> = candidate.values.iter().map(String::as_str).take(3).collect();
            let more = if candidate.values.len() > seen.len() { ", ..." } else { "" };
            let what = match candidate.place {
                name::Place::Number(..) | name::Place::Tag(..) => {
                    "a guess: a number with few values, perhaps a command"
                }
                _ => "a guess by how it looks",
            };
            let counts = format!("{} of {calls} requests", candidate.count.min(calls));
            self.because(field, format!("{counts} say {}{more}; {what}", seen.join(", ")));
            match field {
                "service" => self.layout.service = Some(field.to_owned()),
                _ => self.layout.method = Some(field.to_owned()),
            }
        }
        self.layout.attributes = attributes.into_iter().collect();
    }

    fn place(&self, place: &Place) -> raw::Place {
        match place {
            Place::Header(at, width) => {
                raw::Place { at: Some(number(*at)), coding: Some(coding(*width)), ..raw::Place::default() }
            }
            Place::Field(path) => raw::Place {
                part: Some(self.part_name(self.message())),
                path: Some(dotted(path)),
                ..raw::Place::default()
            },
        }
    }
}

fn length(framing: &Framing) -> Option<raw::Length> {
    match framing {
        Framing::Length(at, width, plus) => {
            Some(raw::Length { at: number(*at), coding: coding(*width), plus: *plus })
        }
        Framing::Varint(at, plus) => {
            Some(raw::Length { at: number(*at), coding: coding(Coding::Varint), plus: *plus })
        }
        Framing::Parts(..) => None,
    }
}

fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
