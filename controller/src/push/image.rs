//! The image: one tar.gz layer with the module as `plugin.wasm`, under an ordinary OCI image manifest.
//!
//! Istio's agent takes three shapes: this one, the same with Docker's media types, and an artifact with media types of its
//! own for a bare module. This one is what `docker build` makes of `FROM scratch` and `COPY`, so every registry, mirror and
//! scanner takes it too; some refuse configurations of types that they do not know.
//!
//! Specifications: [OCI image](https://github.com/opencontainers/image-spec/blob/main/manifest.md),
//! [Wasm image, compat variant](https://github.com/solo-io/wasm/blob/master/spec/spec-compat.md).

use std::io::{self, Write};

use flate2::{Compression, GzBuilder};
use oci_client::manifest::{
    IMAGE_CONFIG_MEDIA_TYPE, IMAGE_LAYER_GZIP_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, OciDescriptor,
    OciImageManifest,
};
use sha2::{Digest, Sha256};

/// The name under which Istio's agent looks for the module in the layer.
const FILE: &str = "plugin.wasm";

/// The annotation that states the variant of a Wasm image.
const VARIANT: (&str, &str) = ("module.wasm.image/variant", "compat");

/// The longest module that Istio's agent takes (`ISTIO_WASM_MAX_BINARY_SIZE_BYTES`), the archive's own bytes included.
const MAX_ARCHIVE_BYTES: usize = 256 << 20;

/// How every core module begins: the magic number and version 1. A component has the same magic number and another version.
const MAGIC: &[u8] = b"\0asm\x01\0\0\0";

/// How the name of the export begins by which hosts know a Proxy-Wasm module.
const ABI: &[u8] = b"proxy_abi_version_";

/// Why a file is no module that an image can be made of.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unfit {
    /// The file is not a core WebAssembly module.
    #[error("is not a WebAssembly module; build one with `cargo wasm`")]
    NotWasm,
    /// The module does not export what Envoy needs.
    #[error("is no Proxy-Wasm module: it exports no `proxy_abi_version_…`; Envoy would refuse it")]
    NotProxyWasm,
    /// The module is longer than Istio's agent takes.
    #[error(
        "has {len} bytes, and Istio's agents take {MAX_ARCHIVE_BYTES} at most, archived; build it with the profile `module`"
    )]
    TooLarge {
        /// Its length in bytes.
        len: usize,
    },
}

/// Bytes in a registry, known by their digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// The bytes.
    pub data: Vec<u8>,
}

impl Blob {
    fn new(data: Vec<u8>) -> Self {
        Self { digest: format!("sha256:{:x}", Sha256::digest(&data)), data }
    }

    fn descriptor(&self, media_type: &str) -> OciDescriptor {
        OciDescriptor {
            media_type: media_type.to_owned(),
            digest: self.digest.clone(),
            size: i64::try_from(self.data.len()).unwrap_or(i64::MAX),
            ..OciDescriptor::default()
        }
    }
}

/// An image that holds a module. The same module always gives the same image, byte for byte: nothing in it depends on
/// the time, the machine or the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The archive with the module.
    pub layer: Blob,
    /// What the image says of itself.
    pub config: Blob,
    /// What names the two: its digest is the image's.
    pub manifest: Blob,
}

impl Image {
    /// The media type of the manifest.
    pub const MEDIA_TYPE: &'static str = OCI_IMAGE_MEDIA_TYPE;

    /// The image of `module`.
    ///
    /// # Errors
    ///
    /// It is no module that Envoy and Istio's agent could take.
    pub fn new(module: &[u8]) -> Result<Self, Unfit> {
        if !module.starts_with(MAGIC) {
            return Err(Unfit::NotWasm);
        }
        if !module.windows(ABI.len()).any(|bytes| bytes == ABI) {
            return Err(Unfit::NotProxyWasm);
        }
        // Writing to memory fails for no other reason than sizes that the format cannot hold.
        let archive = archive(module).map_err(|_| Unfit::TooLarge { len: module.len() })?;
        if archive.len() > MAX_ARCHIVE_BYTES {
            return Err(Unfit::TooLarge { len: module.len() });
        }
        let layer = compressed(&archive).map_err(|_| Unfit::TooLarge { len: module.len() })?;
        let (archive, layer) = (Blob::new(archive), Blob::new(layer));

        // No date and no history. The platform is the module's, as tools for Wasm in images name it.
        let config = format!(
            r#"{{"architecture":"wasm","os":"wasip1","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            archive.digest
        );
        let config = Blob::new(config.into_bytes());
        let manifest = OciImageManifest {
            media_type: Some(Self::MEDIA_TYPE.to_owned()),
            config: config.descriptor(IMAGE_CONFIG_MEDIA_TYPE),
            layers: vec![layer.descriptor(IMAGE_LAYER_GZIP_MEDIA_TYPE)],
            annotations: Some([VARIANT].map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
            ..OciImageManifest::default()
        };
        // Fields in the order of their declaration, so that it is always the same text. There is nothing in it that JSON
        // cannot hold.
        let manifest = Blob::new(serde_json::to_vec(&manifest).unwrap_or_default());
        Ok(Self { layer, config, manifest })
    }
}

fn archive(module: &[u8]) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_size(module.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, FILE, module)?;
    builder.into_inner()
}

fn compressed(archive: &[u8]) -> io::Result<Vec<u8>> {
    /// The value of the header's field for the system that says none (RFC 1952, section 2.3.1).
    const UNKNOWN_SYSTEM: u8 = 255;
    let builder = GzBuilder::new().mtime(0).operating_system(UNKNOWN_SYSTEM);
    let mut encoder = builder.write(Vec::new(), Compression::best());
    encoder.write_all(archive)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use serde_json::{Value, json};

    use super::*;

    fn module() -> Vec<u8> {
        let mut module = MAGIC.to_vec();
        module.extend_from_slice(b"proxy_abi_version_0_2_1");
        module.extend((0..100_000_u32).flat_map(|number| (number / 7).to_le_bytes()));
        module
    }

    #[test]
    fn the_layer_holds_the_module() {
        let image = Image::new(&module()).unwrap();
        let mut archive = tar::Archive::new(GzDecoder::new(&*image.layer.data));
        let mut entries = archive.entries().unwrap();
        let mut entry = entries.next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap().to_str(), Some("plugin.wasm"));
        assert_eq!((entry.header().mode().unwrap(), entry.header().mtime().unwrap()), (0o644, 0));
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        assert!(bytes == module());
        assert!(entries.next().is_none());
    }

    #[test]
    fn manifest_and_config_name_what_there_is() {
        let image = Image::new(&module()).unwrap();
        let manifest: Value = serde_json::from_slice(&image.manifest.data).unwrap();
        let layer = json!([{
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": image.layer.digest, "size": image.layer.data.len(),
        }]);
        let config = json!({
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": image.config.digest, "size": image.config.data.len(),
        });
        let whole = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": layer, "annotations": {"module.wasm.image/variant": "compat"},
        });
        assert_eq!(manifest, whole);
        let config: Value = serde_json::from_slice(&image.config.data).unwrap();
        let mut archive = Vec::new();
        GzDecoder::new(&*image.layer.data).read_to_end(&mut archive).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"], json!([Blob::new(archive).digest]));
    }

    /// Whoever pushes the same module elsewhere, or later, or with another version of the libraries, gets this.
    #[test]
    fn the_digest_depends_on_the_module_alone() {
        let known = "sha256:4a5bbac38da618f7a51ef4246e7fac2c25c9935dd0977ad9991887df3388774b";
        assert_eq!(Image::new(&module()).unwrap().manifest.digest, known);
        let mut other = module();
        other.push(0);
        assert_ne!(Image::new(&other).unwrap(), Image::new(&module()).unwrap());
    }

    #[test]
    fn other_files_are_refused() {
        assert_eq!(Image::new(b"#!/bin/sh\n"), Err(Unfit::NotWasm));
        assert_eq!(
            Image::new(b"\0asm\x0d\0\x01\0 proxy_abi_version_0_2_1"),
            Err(Unfit::NotWasm),
            "a component"
        );
        assert_eq!(Image::new(MAGIC), Err(Unfit::NotProxyWasm));
    }
}
