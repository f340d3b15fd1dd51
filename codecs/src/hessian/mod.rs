//! Hessian 2.0 as far as a proxy needs it: values are skipped without being built, strings and numbers are read, and
//! the few types that a proxy makes are written.
//!
//! Follows the [Hessian 2.0 serialization protocol](http://hessian.caucho.com/doc/hessian-serialization.html). Strings
//! are counted in UTF-16 units and carry each unit of a surrogate pair as three bytes of its own (section 4.12).
mod fault;
mod lenient;
mod map;
mod number;
mod reader;
mod text;
mod write;

pub(crate) use fault::{Fault, Parsed};
pub(crate) use lenient::{Lenient, Stop};
pub(crate) use map::{Entry, Map};
pub(crate) use reader::{Marks, Object, Reader, Value};
pub(crate) use text::{check_optional_text, is_text, optional_text, short_text, skip_optional_text, text};
pub(crate) use write::{SHORT, write_bytes, write_int, write_short, write_text};

/// Null, `N`.
pub(crate) const NULL: u8 = b'N';
/// The start of an untyped map, `H`.
pub(crate) const MAP: u8 = b'H';
/// The end of a map or of a list of unknown length, `Z`.
pub(crate) const END: u8 = b'Z';
