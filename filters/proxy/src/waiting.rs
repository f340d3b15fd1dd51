//! Calls that wait for a connection, and what an event leaves to do: nothing of it is done while the event is handled,
//! so that what ends one call starts no other before it is through with all that it ends.

use std::collections::VecDeque;

use meltemi_codecs::Failure;

use crate::calls::{Call, CallId, Cause};
use crate::client::ClientId;
use crate::deadlines::Timed;
use crate::dispatch::Choice;
use crate::matching::Matching;
use crate::policy::Bucket;
use crate::pool::PoolId;
use crate::queue::{Lane, Lanes};
use crate::worker::Worker;

/// What is to be looked at when the event is handled; each is listed once.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    /// Pools that may have room for calls that wait, or need connections.
    pools: VecDeque<PoolId>,
    /// Clients of which another request may be read, or that may be done.
    clients: VecDeque<ClientId>,
}

/// Where a call waits: that of its bucket, unless it is to go elsewhere than that leads.
fn lane(call: &Call) -> Lane {
    call.bucket().filter(|_| call.avoid().is_none()).map_or(0, Bucket::number)
}

impl Worker {
    /// Has a pool be looked at, if calls wait or endpoints are looked for.
    pub(crate) fn list_pool(&mut self, id: PoolId) {
        if let Some(pool) = self.pools.get_mut(id)
            && pool.enlist()
        {
            self.agenda.pools.push_back(id);
        }
    }

    /// Has a client be looked at, if one of its calls has ended and it waits for that.
    pub(crate) fn list_client(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(id)
            && client.enlist()
        {
            self.agenda.clients.push_back(id);
        }
    }

    /// Does what events have left to do. Who waits already comes first, then those of whom more is read.
    #[inline]
    pub(crate) fn catch_up(&mut self) {
        if !self.agenda.pools.is_empty() || !self.agenda.clients.is_empty() {
            self.do_listed();
        }
    }

    #[inline(never)]
    fn do_listed(&mut self) {
        loop {
            if let Some(pool) = self.agenda.pools.pop_front() {
                self.serve_waiting(pool);
            } else if let Some(client) = self.agenda.clients.pop_front() {
                self.look_at_client(client);
            } else {
                break;
            }
        }
    }

    /// Lets a call wait for a connection of its pool.
    pub(crate) fn wait(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let pool_key = call.pool();
        let Some(pool) = self.pools.get_mut(pool_key) else { return };
        call.wait(pool.waiting_mut().push(call.origin().client(), lane(call), id));
        if let Some(due) = call.due() {
            self.deadlines.push(due, Timed::Call(id));
        }
        self.list_pool(pool_key);
    }

    /// Gives waiting calls to connections, as far as there is room.
    fn serve_waiting(&mut self, pool_key: PoolId) {
        let (mut held, mut lacks_quiet) = (Vec::new(), false);
        // Lanes without room, and those for which there will be a connection without more ado.
        let (mut blocked, mut hashed) = (Lanes::default(), Lanes::default());
        let mut alone = 0_usize;
        let mut from = 0;
        if let Some(pool) = self.pools.get_mut(pool_key) {
            pool.unlist();
        }
        while let Some(next) = self.pools.get(pool_key).and_then(|pool| pool.waiting().next(from, &blocked)) {
            from = next.turn;
            let (avoid, in_part, bucket) = self.calls.get(next.call).map_or((None, false, None), |call| {
                (call.avoid(), call.record().request_bytes as usize > call.frame().len(), call.bucket())
            });
            let bucket = bucket.filter(|_| avoid.is_none());
            let mut choice = match bucket {
                Some(bucket) => self.choose_hashed(pool_key, bucket, in_part),
                None => self.choose(pool_key, avoid, in_part),
            };
            if choice == Choice::Full && in_part && self.choose(pool_key, avoid, false) != Choice::Full {
                // Those that have room have streams.
                (choice, lacks_quiet) = (Choice::Hold, true);
            }
            let is_hashing = self.pools.get(pool_key).is_some_and(|pool| pool.buckets().are_used());
            if choice == Choice::Full && !is_hashing {
                break;
            }
            let is_like_others = avoid.is_none() && !in_part;
            if let (Choice::Hold | Choice::Full, true) = (choice, is_like_others) {
                next.block(&mut blocked);
                if choice == Choice::Hold {
                    next.block(&mut hashed);
                }
                continue;
            }
            if let Some(pool) = self.pools.get_mut(pool_key) {
                pool.waiting_mut().take(&next);
            }
            match choice {
                Choice::Take(connection) => self.send(next.call, connection, None),
                Choice::Hold | Choice::Full => {
                    alone = alone.saturating_add(usize::from(choice == Choice::Hold && bucket.is_some()));
                    held.push(next.call);
                }
            }
        }
        if let Some(pool) = self.pools.get_mut(pool_key) {
            pool.lack_quiet(lacks_quiet);
            alone = alone.saturating_add(pool.waiting().count(&hashed));
            for id in held {
                if let Some(call) = self.calls.get_mut(id) {
                    call.wait(pool.waiting_mut().push(call.origin().client(), lane(call), id));
                }
            }
        }
        self.grow(pool_key, alone);
    }

    /// Opens connections that a pool needs: for calls that wait, but for so many that are `hashed`, and to find endpoints it does
    /// not know yet.
    fn grow(&mut self, pool_key: PoolId, hashed: usize) {
        let Some(pool) = self.pools.get(pool_key) else { return };
        if !self.net.is_open() {
            // Those being opened are not waited for: no alarm can be set that would end it.
            if pool.open().is_empty() && !pool.waiting().is_empty() {
                self.waiting_failed(pool_key, "this proxy is draining");
            }
            return;
        }
        let bucket = pool.owner().and_then(|_| self.calls.get(pool.waiting().front()?)?.bucket());
        let wanted = Matching::new(pool.service().sharing).connections_wanted(pool, hashed);
        for _ in pool.connecting_for_calls()..wanted {
            if !self.open(pool_key, None, bucket) {
                self.waiting_failed(pool_key, "this proxy is draining");
            }
        }
    }

    /// No connection can be had: every call that waits for one loses this try.
    pub(crate) fn waiting_failed(&mut self, pool_key: PoolId, detail: &str) {
        let Some(pool) = self.pools.get_mut(pool_key) else { return };
        for id in pool.waiting_mut().drain() {
            self.try_failed(id, Cause::ConnectFailure, Failure::NoEndpoint, detail);
        }
        self.list_pool(pool_key);
    }
}
