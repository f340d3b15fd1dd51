use serde::Deserialize;

use super::object::object;
use crate::Table;

/// A protocol of one's own: where in its frames things are. What has no place in it is not there.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct Layout {
    /// The bytes that every frame has, in hexadecimal, such as `dabb`.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub magic: Option<String>,
    /// Where they are, in bytes from the frame's start.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub magic_at: u32,
    /// The bytes of the header, which the parts follow. Default: to the end of the last field that has a place in it.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub header: Option<u32>,
    /// How long a frame is. Default: to the end of its last part.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub length: Option<Length>,
    /// What follows the header, one after the other.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub parts: Vec<Part>,
    /// The request id, which answers repeat.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub id: Option<Place>,
    /// Other places that have the request id too.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub id_copies: Vec<Place>,
    /// What a frame is. Default: what clients send are requests, what servers send are answers.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub kind: Option<Kind>,
    /// What an answer says of its call. Default: every call succeeds.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub status: Option<ResponseStatus>,
    /// How answers differ from requests. Default: they do not.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub response: Option<Response>,
    /// What routes can test of a request, by name. Parts that are text are attributes already.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub attributes: Table<Attribute>,
    /// The attribute that metrics call the service.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub service: Option<String>,
    /// The attribute that metrics call the method.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub method: Option<String>,
    /// How calls share a connection to a server. Default: `shared` with an id, else `exclusive`.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub sharing: Option<Sharing>,
    /// The answer to a request that fails on its way. Default: none, and clients wait for their own time-outs.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub error_reply: Option<ErrorReply>,
    /// The answer to a heartbeat: a frame as in `errorReply`.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub heartbeat_reply: Option<String>,
    /// The frame by which a server asks for no new calls, before it closes a connection.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub drain_notice: Option<String>,
}

object! {
    Layout from Self::default();
    optional magic, magic_at as "magicAt", header, length, parts, id, id_copies as "idCopies", kind, status,
        response, attributes, service, method, sharing, error_reply as "errorReply",
        heartbeat_reply as "heartbeatReply", drain_notice as "drainNotice";
}

/// A length in the header.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct Length {
    /// Where it is, in bytes from the frame's start.
    pub at: u32,
    /// How it is written: `u8` to `u64` in whole bytes, `u16le` and so on with the least significant byte first, or `varint`.
    #[cfg_attr(feature = "schema", serde(rename = "as"))]
    pub coding: String,
    /// What is to be added to it.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub plus: i64,
}

object! {
    Length from Self::default();
    required at, coding as "as";
    optional plus;
}

/// A number: in the header by `at` and `as`, or in a part that is protobuf by `in` and `path`.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct Place {
    /// Where it is, in bytes from the frame's start.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub at: Option<u32>,
    /// How it is written, such as `u32`.
    #[cfg_attr(feature = "schema", serde(default, rename = "as", skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub coding: Option<String>,
    /// The part that it is in.
    #[cfg_attr(feature = "schema", serde(default, rename = "in", skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub part: Option<String>,
    /// The numbers of the fields that lead to it, such as `"2.1"`.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub path: Option<String>,
}

object! {
    Place from Self::default();
    optional at, coding as "as", part as "in", path;
}

/// A part of a frame. Its length is one of `bytes`, `length` and `prefix`; without these it goes to the frame's end.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Its length, if it is always the same.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub bytes: Option<u32>,
    /// What says its length in the header.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub length: Option<Length>,
    /// How its length is written just before it, such as `u16`.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub prefix: Option<String>,
    /// What it holds.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub form: Form,
    /// Of `protobuf`: the number of a field that is a map from text. Its entries are attributes.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub map: Option<u32>,
    /// Of `pairs`: what is between two. Default: `&`.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub separator: Option<String>,
    /// Of `pairs`: what is between a key and its value. Default: `=`.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub equals: Option<String>,
    /// Of `tlv`: how tags are written. Default: `u8`.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub tag: Option<String>,
    /// Of `map` and `tlv`: how lengths are written. Default: `u32` and `u8`.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub size: Option<String>,
}

object! {
    Part from Self::default();
    required name;
    optional bytes, length, prefix, form, map, separator, equals, tag, size;
}

/// What a part holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// What is not read.
    #[default]
    Bytes,
    /// Text, which is an attribute of the part's name.
    Text,
    /// A JSON object. Its members are attributes; those of an object in it follow a dot.
    Json,
    /// A message of protobuf.
    Protobuf,
    /// Keys and values as text, such as `a=1&b=2`. They are attributes.
    Pairs,
    /// Keys and values, each after its length. They are attributes.
    Map,
    /// Values, each after its tag and its length.
    Tlv,
}

/// Which value says what a frame is. A value that is not listed means `otherwise`.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct Kind {
    /// Where it is, in bytes from the frame's start.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub at: Option<u32>,
    /// How it is written, such as `u8`.
    #[cfg_attr(feature = "schema", serde(default, rename = "as", skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub coding: Option<String>,
    /// The part that it is in.
    #[cfg_attr(feature = "schema", serde(default, rename = "in", skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub part: Option<String>,
    /// The numbers of the fields that lead to it, such as `"2.1"`.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub path: Option<String>,
    /// The bits of it that count. Default: all.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub mask: Option<u32>,
    /// The value of a request that is answered.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub request: Option<u32>,
    /// The value of a request that is not answered.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub one_way: Option<u32>,
    /// The value of an answer.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub response: Option<u32>,
    /// The value of a sign of life. It is answered by `heartbeatReply`.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub heartbeat: Option<u32>,
    /// The value of its answer, if it is another one.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub heartbeat_reply: Option<u32>,
    /// The value of a server's word that it wants no new calls.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub drain: Option<u32>,
    /// What any other value means.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub otherwise: Otherwise,
}

object! {
    Kind from Self::default();
    optional at, coding as "as", part as "in", path, mask, request, one_way as "oneWay", response,
        heartbeat, heartbeat_reply as "heartbeatReply", drain, otherwise;
}

/// What a frame is whose value is not listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "kebab-case")]
pub enum Otherwise {
    /// From a client a request, from a server an answer.
    #[default]
    Direction,
    /// A request that is answered.
    Request,
    /// A request that is not answered.
    OneWay,
    /// An answer.
    Response,
    /// The answer to a sign of life.
    HeartbeatReply,
    /// What is passed over.
    Event,
}

/// What an answer says of its call.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct ResponseStatus {
    /// Where it is, in bytes from the frame's start.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub at: Option<u32>,
    /// How it is written, such as `u16`.
    #[cfg_attr(feature = "schema", serde(default, rename = "as", skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub coding: Option<String>,
    /// The part that it is in.
    #[cfg_attr(feature = "schema", serde(default, rename = "in", skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub part: Option<String>,
    /// The numbers of the fields that lead to it, such as `"2.1"`. A field that is not there is 0.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub path: Option<String>,
    /// The statuses of success. Default: 0.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub success: Option<Vec<u32>>,
    /// The statuses by which the service itself says no. All others are failures on the way.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub exception: Vec<u32>,
    /// A second status, the service's own: any but 0 is an exception.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub service: Option<Place>,
    /// The names of statuses, for `statuses` of retries.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub names: Table<u32>,
}

object! {
    ResponseStatus from Self::default();
    optional at, coding as "as", part as "in", path, success, exception, service, names;
}

/// How answers differ from requests.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct Response {
    /// The bytes of their header.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub header: Option<u32>,
    /// How long they are. Default: to the end of the last part.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub length: Option<Length>,
    /// Their parts.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub parts: Vec<Part>,
}

object! {
    Response from Self::default();
    optional header, length, parts;
}

/// What routes can test: a number or text in the header by `at`, or what a part holds by `in` and `path`.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct Attribute {
    /// Where it is, in bytes from the frame's start.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub at: Option<u32>,
    /// How a number is written, such as `u16`. In `tlv` it is text without this.
    #[cfg_attr(feature = "schema", serde(default, rename = "as", skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub coding: Option<String>,
    /// Of text in the header: its length. A zero byte ends it sooner.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub bytes: Option<u32>,
    /// The part that it is in.
    #[cfg_attr(feature = "schema", serde(default, rename = "in", skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub part: Option<String>,
    /// What leads to it: numbers of fields as `"1.2"` in `protobuf`, the tag in `tlv`, the key in others. Default: its name.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub path: Option<String>,
    /// The bits of a number that count. Default: all.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub mask: Option<u32>,
    /// What numbers are called. One without a name is its digits.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub names: Table<u32>,
}

object! {
    Attribute from Self::default();
    optional at, coding as "as", bytes, part as "in", path, mask, names;
}

/// How calls share a connection to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// Many calls at once, whose answers come in any order.
    Shared,
    /// Many calls at once, which are answered in their order.
    InOrder,
    /// One call at a time.
    Exclusive,
}

/// The answer to a request that fails on its way.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct ErrorReply {
    /// The frame: hexadecimal bytes, `"text"` as it is, `{id:u32}`, `{status:u16}`, `{text}`, `{frame:u32}` for its whole length, `{rest:u32}` for the bytes that follow, `{rest:u32-4}` for four fewer, and `( )` around what follows its length as a varint.
    pub frame: String,
    /// The status of all failures that are not listed.
    pub status: u32,
    /// The request cannot be read.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub bad_request: Option<u32>,
    /// No route matches, or the default route has no cluster.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub no_route: Option<u32>,
    /// No endpoint could be reached.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub no_endpoint: Option<u32>,
    /// The connection was lost, or the answer cannot be read.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub connection_lost: Option<u32>,
    /// No answer came in time.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub timeout: Option<u32>,
    /// A limit is reached.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub overloaded: Option<u32>,
    /// Authorization denied the call.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub denied: Option<u32>,
}

object! {
    ErrorReply from Self::default();
    required frame, status;
    optional bad_request as "badRequest", no_route as "noRoute", no_endpoint as "noEndpoint",
        connection_lost as "connectionLost", timeout, overloaded, denied;
}
