use crate::SocketId;
use crate::socket::{Kind, Socket};

/// The sockets of both sides by index.
#[derive(Debug, Default)]
pub(crate) struct Slab {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot {
    /// Counts up when an id becomes stale.
    generation: u32,
    socket: Option<Socket>,
}

impl Slab {
    pub(crate) fn len(&self) -> usize {
        self.slots.len().saturating_sub(self.free.len())
    }

    /// Whether all that is left are alarms.
    pub(crate) fn is_idle(&self) -> bool {
        self.slots.iter().filter_map(|slot| slot.socket.as_ref()).all(|s| matches!(s.kind, Kind::Alarm))
    }

    pub(crate) fn insert(&mut self, socket: Socket) -> Option<SocketId> {
        if let Some(index) = self.free.pop() {
            let slot = self.slots.get_mut(to_usize(index))?;
            slot.socket = Some(socket);
            return Some(SocketId { index, generation: slot.generation });
        }
        let index = u32::try_from(self.slots.len()).ok()?;
        self.slots.push(Slot { generation: 0, socket: Some(socket) });
        Some(SocketId { index, generation: 0 })
    }

    /// The id of the socket at an index.
    pub(crate) fn id(&self, index: u32) -> SocketId {
        let generation = self.slots.get(to_usize(index)).map_or(0, |slot| slot.generation);
        SocketId { index, generation }
    }

    pub(crate) fn at(&self, index: u32) -> Option<&Socket> {
        self.slots.get(to_usize(index))?.socket.as_ref()
    }

    pub(crate) fn at_mut(&mut self, index: u32) -> Option<&mut Socket> {
        self.slots.get_mut(to_usize(index))?.socket.as_mut()
    }

    pub(crate) fn get(&self, id: SocketId) -> Option<&Socket> {
        let slot = self.slots.get(id.index())?;
        (slot.generation == id.generation).then_some(slot.socket.as_ref()).flatten()
    }

    pub(crate) fn get_mut(&mut self, id: SocketId) -> Option<&mut Socket> {
        let slot = self.slots.get_mut(id.index())?;
        (slot.generation == id.generation).then_some(slot.socket.as_mut()).flatten()
    }

    /// Makes the id of a socket stale. The socket itself stays until it is removed.
    pub(crate) fn release(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(to_usize(index))
            && let Some(socket) = &mut slot.socket
            && !socket.released
        {
            socket.released = true;
            slot.generation = slot.generation.wrapping_add(1);
        }
    }

    pub(crate) fn remove(&mut self, index: u32) -> Option<Socket> {
        self.release(index);
        let socket = self.slots.get_mut(to_usize(index))?.socket.take()?;
        self.free.push(index);
        Some(socket)
    }

    /// Indices that may have a socket.
    pub(crate) fn indices(&self) -> impl Iterator<Item = u32> + use<> {
        0..u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }
}

fn to_usize(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}
