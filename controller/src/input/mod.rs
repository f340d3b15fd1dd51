//! What the commands read: files and folders of resources, checked and put together into a world.

mod files;
mod node;
mod resources;

pub use files::{Depth, Error, File, read};
pub use resources::{Found, Origin, Resources, objects};
