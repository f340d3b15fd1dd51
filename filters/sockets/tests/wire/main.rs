//! The sockets against frames written by hand.

mod behaviour;
mod hostile;
mod raw;
mod unread;
mod windows;
