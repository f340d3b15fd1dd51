use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::{fs, io, thread};

use crate::namespace::Namespace;

/// Serves the files of a folder by HTTP at the address of the control plane, for agents that fetch modules.
#[derive(Debug)]
pub struct FileServer {
    folder: PathBuf,
    address: Ipv4Addr,
    port: u16,
}

impl FileServer {
    /// Serves the files of `folder` in the namespace `control`, on a free port, until the process ends.
    pub(crate) fn start(control: &Namespace, folder: PathBuf) -> Self {
        fs::create_dir_all(&folder).unwrap();
        let address = control.address();
        let port = control.enter(|| {
            let listener = TcpListener::bind((address, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            let folder = folder.clone();
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    // A client that leaves early has its own reasons.
                    let _ = answer(stream, &folder);
                }
            });
            port
        });
        Self { folder, address, port }
    }

    /// Serves a copy of `file` under its name and gives its URL.
    pub fn publish(&self, file: &Path) -> String {
        let name = file.file_name().unwrap();
        fs::copy(file, self.folder.join(name)).unwrap();
        format!("http://{}:{}/{}", self.address, self.port, name.to_string_lossy())
    }
}

/// Answers one request and closes the connection.
fn answer(stream: TcpStream, folder: &Path) -> io::Result<()> {
    let mut reader = BufReader::new(&stream);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let name = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    // Names only: nothing outside the folder is served.
    let file = Path::new(name).file_name().and_then(|name| fs::read(folder.join(name)).ok());
    let status = if file.is_some() { "200 OK" } else { "404 Not Found" };
    let body = file.unwrap_or_default();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    (&stream).write_all(head.as_bytes())?;
    (&stream).write_all(&body)
}
