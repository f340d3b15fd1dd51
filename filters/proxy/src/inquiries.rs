//! Questions to services, asked by gRPC: about calls, which wait meanwhile, or with spans, for which nothing waits.
//! Spans may go by HTTP as well, which is the connection manager's to speak.
//!
//! A service is asked over a connection to its cluster as servers are called, with an HTTP/2 of our own in it: so it may be in
//! any cluster, whatever protocol Envoy takes its port for, and many questions leave in one write. There is one connection for
//! a cluster. Envoy chooses the endpoint; another is chosen when the connection is lost or old, or when answers stay away.

mod channel;

use core::time::Duration;
use std::rc::Rc;

use meltemi_sockets::{Request, SocketId, Target};

use self::channel::{Channel, Happening, host, said, with};
use crate::arena::{Arena, Id};
use crate::calls::CallId;
use crate::clock::{Instant, earliest};
use crate::net::{HIGH_WATERMARK, Net, Owner};
use crate::policy::{NoAnswer, Question};
use crate::spans::Sent;

/// Names a connection to a service.
pub(crate) type ChannelId = Id<Channel>;

/// Names a question that was asked.
pub(crate) type InquiryId = Id<Inquiry>;

/// The questions that are asked, and the connections for them.
#[derive(Debug, Default)]
pub(crate) struct Inquiries {
    channels: Arena<Channel>,
    asked: Arena<Inquiry>,
    /// Clusters that just refused a connection, and until when they are not asked for one.
    refused: Vec<(Rc<str>, Instant)>,
}

/// What a service is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    /// The cluster of the service.
    pub(crate) cluster: &'a Rc<str>,
    /// Its method.
    pub(crate) path: &'static str,
    /// How long the answer may take, as the service is told.
    pub(crate) timeout: Duration,
    /// What it is told beside the message.
    pub(crate) headers: &'a [(String, String)],
    pub(crate) message: &'a [u8],
}

/// Whose question it is.
#[derive(Debug)]
pub(crate) enum Asker {
    /// A call about which a rate limit service is asked.
    Call(CallId, Question),
    /// Spans that a collector is given.
    Spans(Sent),
}

/// Where an answer will come.
#[derive(Debug)]
pub(crate) struct Asked {
    channel: ChannelId,
    stream: SocketId,
}

/// A question that was asked.
#[derive(Debug)]
pub(crate) struct Inquiry {
    asker: Asker,
    /// The connection that it went by; none, if that was the connection manager.
    channel: Option<ChannelId>,
    stream: SocketId,
}

/// What has become of a question.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) asker: Asker,
    /// The message of the answer, or why there is none.
    pub(crate) answer: Result<Vec<u8>, NoAnswer>,
    /// Why the service gave none, in its words.
    pub(crate) said: String,
}

impl Outcome {
    /// No answer came.
    pub(crate) fn none(asker: Asker, why: NoAnswer) -> Self {
        Self { asker, answer: Err(why), said: String::new() }
    }
}

/// A cluster that refused a connection is not asked for another so soon.
const PAUSE: Duration = Duration::from_millis(100);

/// So many bytes may be left to be sent on a connection that is closed.
const MOST_LEFT: usize = 16 << 10;

/// A connection of that age is replaced, so that all endpoints have their share, and one that was not used for so long is closed.
pub(crate) const AGE: Duration = Duration::from_secs(60);

impl Inquiries {
    /// Asks a service: where the answer will come, if there is a connection.
    pub(crate) fn ask(&mut self, ask: &Ask<'_>, now: Instant, net: &mut Net) -> Option<Asked> {
        let id = self.channel(ask.cluster, now, net)?;
        let stream = self.channels.get_mut(id).and_then(|channel| channel.request(ask));
        if stream.is_none() {
            self.leave(id, net);
        }
        Some(Asked { channel: id, stream: stream? })
    }

    /// Notes whose question that was.
    pub(crate) fn note(&mut self, asked: Asked, asker: Asker, now: Instant, net: &mut Net) -> InquiryId {
        let Asked { channel: id, stream } = asked;
        let inquiry = self.asked.insert(Inquiry { asker, channel: Some(id), stream });
        if let Some(channel) = self.channels.get_mut(id) {
            channel.note(stream, inquiry, now);
            channel.flush(net);
        }
        inquiry
    }

    /// Sends a message by HTTP to a path of a cluster.
    ///
    /// # Errors
    ///
    /// It cannot be: who asks.
    #[inline(never)]
    pub(crate) fn post(
        &mut self,
        (cluster, path): (&str, &str),
        content_type: &str,
        headers: &[(String, String)],
        message: &[u8],
        asker: Asker,
        net: &mut Net,
    ) -> Result<InquiryId, Asker> {
        let length = message.len().to_string();
        let own = [("content-type", content_type), ("content-length", &length), ("user-agent", "meltemi")];
        let request = Request {
            method: "POST",
            scheme: "http",
            authority: host(cluster),
            path,
            cluster: Some(cluster),
            headers: &with(&own, headers),
            body: message,
        };
        let Some(stream) = net.request(&request) else { return Err(asker) };
        let inquiry = self.asked.insert(Inquiry { asker, channel: None, stream });
        net.own(stream, Owner::Request(inquiry));
        Ok(inquiry)
    }

    /// A message that was sent by HTTP was answered: what has become of it.
    pub(crate) fn responded(&mut self, id: InquiryId, status: u16, body: Vec<u8>) -> Option<Outcome> {
        let Inquiry { asker, .. } = self.asked.remove(id)?;
        Some(match status {
            0 => Outcome::none(asker, NoAnswer::Reset),
            200..300 => Outcome { asker, answer: Ok(body), said: String::new() },
            _ => {
                let said = said(status, None, core::str::from_utf8(&body).unwrap_or_default());
                Outcome { asker, answer: Err(NoAnswer::Error), said }
            }
        })
    }

    /// Whether that question has no answer yet.
    pub(crate) fn is_open(&self, id: InquiryId) -> bool {
        self.asked.get(id).is_some()
    }

    /// The connection that takes questions to a cluster: an old one until another is open.
    fn channel(&mut self, cluster: &Rc<str>, now: Instant, net: &mut Net) -> Option<ChannelId> {
        let (mut open, mut opening) = (None, None);
        for (id, channel) in self.channels.iter() {
            if channel.cluster() == cluster && !channel.is_leaving() {
                let found = if channel.is_open() { &mut open } else { &mut opening };
                *found = Some((id, channel.opened_at().after(AGE) <= now));
            }
        }
        let found = open.or(opening);
        if opening.is_some() || matches!(found, Some((_, false))) {
            return found.map(|(id, _)| id);
        }
        let new = self.connect(cluster, now, net);
        found.map(|(id, _)| id).or(new)
    }

    fn connect(&mut self, cluster: &Rc<str>, now: Instant, net: &mut Net) -> Option<ChannelId> {
        self.refused.retain(|(_, until)| *until > now);
        if !net.is_open() || self.refused.iter().any(|(refused, _)| refused == cluster) {
            return None;
        }
        let socket = net.connect(&Target { cluster, ..Target::default() })?;
        let id = self.channels.insert(Channel::new(cluster.clone(), socket, now));
        net.own(socket, Owner::Channel(id));
        Some(id)
    }

    /// A connection is open: those before it take no more questions.
    pub(crate) fn connected(&mut self, id: ChannelId, net: &mut Net) {
        let Some(channel) = self.channels.get_mut(id) else { return };
        channel.open();
        let cluster = channel.cluster().clone();
        for other in self.channels.ids() {
            if other != id && self.channels.get(other).is_some_and(|channel| *channel.cluster() == cluster) {
                self.leave(other, net);
            }
        }
    }

    /// Closes connections that were not used for long; when to look again.
    pub(crate) fn sweep(&mut self, now: Instant, net: &mut Net) -> Option<Instant> {
        let mut next = None;
        for id in self.channels.ids() {
            match self.channels.get(id).map(|channel| channel.used_at().after(AGE)) {
                Some(due) if due <= now => self.leave(id, net),
                due => next = earliest(next, due),
            }
        }
        next
    }

    /// Nobody waits for that answer any more; `is_late` if that is since it took too long. Who asked.
    pub(crate) fn forget(&mut self, id: InquiryId, is_late: bool, net: &mut Net) -> Option<Asker> {
        let Inquiry { asker, channel, stream } = self.asked.remove(id)?;
        let Some(key) = channel else {
            net.reset(stream);
            return Some(asker);
        };
        if let Some(channel) = self.channels.get_mut(key) {
            channel.cancel(stream, is_late);
            channel.flush(net);
            self.close_if_done(key, net);
        }
        Some(asker)
    }

    /// Bytes came on a connection: what has become of questions.
    pub(crate) fn data(&mut self, id: ChannelId, bytes: &[u8], net: &mut Net) -> Vec<Outcome> {
        let Some(channel) = self.channels.get_mut(id) else { return Vec::new() };
        net.consumed(channel.socket(), bytes.len());
        let mut outcomes = Vec::new();
        let mut input = bytes;
        let is_sound = loop {
            match channel.receive(&mut input) {
                Ok(Some(Happening::Answered(inquiry, answer, said))) => {
                    if let Some(Inquiry { asker, .. }) = self.asked.remove(inquiry) {
                        outcomes.push(Outcome { asker, answer, said });
                    }
                }
                Ok(Some(Happening::Other)) => {}
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        let socket = channel.socket();
        if is_sound {
            channel.flush(net);
        }
        let is_stuck = net.queued(socket) >= HIGH_WATERMARK;
        if is_sound && !is_stuck {
            self.close_if_done(id, net);
            return outcomes;
        }
        // A service may want answers to its own frames, and not read them.
        if is_stuck {
            net.reset(socket)
        } else {
            net.close(socket)
        }
        outcomes.extend(self.lost(id, NoAnswer::Reset));
        outcomes
    }

    /// A connection that was open is gone, or one could not be opened: what becomes of its questions.
    pub(crate) fn lost(&mut self, id: ChannelId, why: NoAnswer) -> Vec<Outcome> {
        let Some(channel) = self.channels.remove(id) else { return Vec::new() };
        let asked = channel.asked().filter_map(|inquiry| self.asked.remove(inquiry));
        let outcome = |Inquiry { asker, .. }| Outcome::none(asker, why);
        asked.map(outcome).collect()
    }

    /// A connection could not be opened: what becomes of its questions.
    pub(crate) fn refused(&mut self, id: ChannelId, now: Instant) -> Vec<Outcome> {
        if let Some(channel) = self.channels.get(id) {
            self.refused.push((channel.cluster().clone(), now.after(PAUSE)));
        }
        self.lost(id, NoAnswer::NoConnection)
    }

    /// Keeps no connections to clusters that no plan names any more, once their questions are answered.
    pub(crate) fn retain(&mut self, is_named: impl Fn(&str) -> bool, net: &mut Net) {
        for id in self.channels.ids() {
            if self.channels.get(id).is_some_and(|channel| !is_named(channel.cluster())) {
                self.leave(id, net);
            }
        }
    }

    /// A connection takes no more questions.
    fn leave(&mut self, id: ChannelId, net: &mut Net) {
        if let Some(channel) = self.channels.get_mut(id) {
            channel.leave();
        }
        self.close_if_done(id, net);
    }

    fn close_if_done(&mut self, id: ChannelId, net: &mut Net) {
        if let Some(channel) = self.channels.get(id).filter(|channel| channel.is_done()) {
            // What is queued for an endpoint that reads nothing would stay for good.
            if net.queued(channel.socket()) > MOST_LEFT {
                net.reset(channel.socket());
            } else {
                net.close(channel.socket());
            }
            self.channels.remove(id);
        }
    }
}
