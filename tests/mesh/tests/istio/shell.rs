use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use meltemi::checkout;
use meltemi_mesh_tests::Mesh;
use meltemi_tests::files;
use tempfile::TempDir;

/// Says that a command has ended.
const END: &str = "--- end of the command";

/// The shell of a user at the root of the checkout `meltemi`, with all rights in the cluster. It ends with the first command
/// that fails.
pub struct Shell {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// What the checkout is in.
    pub home: TempDir,
}

impl Shell {
    /// Starts one. `meltemi` is the program of that path.
    pub fn start(mesh: &Mesh, meltemi: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let checkout = home.path().join("meltemi");
        fs::create_dir(&checkout).unwrap();
        // Commands may change samples. The rest is what it is.
        files::run(Command::new("cp").arg("-r").arg(files::root().join("istio-samples")).arg(&checkout));
        for folder in ["controller", "deploy", "examples"] {
            symlink(files::root().join(folder), checkout.join(folder)).unwrap();
        }
        let logs = checkout::target().join("mesh");
        fs::create_dir_all(&logs).unwrap();
        let mut command = Command::new("bash");
        command
            .current_dir(&checkout)
            .env("KUBECONFIG", mesh.cluster().kubeconfig())
            .env("KUBECACHEDIR", home.path().join(".kube"))
            .env("ROOT", files::root())
            .env("MELTEMI", meltemi)
            .env("LOGS", &logs)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(logs.join("shell.log")).unwrap());
        let mut child = mesh.network().control().enter(|| command.spawn()).unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut shell = Self { child, input, output, home };
        shell.run(include_str!("shell.sh"));
        shell
    }

    /// Runs a command and gives what it printed.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn run(&mut self, command: &str) -> String {
        writeln!(self.input, "{command}\necho; echo '{END}'").unwrap();
        let mut printed = String::new();
        loop {
            let start = printed.len();
            let read = self.output.read_line(&mut printed).unwrap();
            assert!(read > 0, "{command}\n{printed}\n{}", self.complaints());
            if printed[start..].trim_end() == END {
                printed.truncate(start);
                return printed;
            }
        }
    }

    fn complaints(&self) -> String {
        fs::read_to_string(checkout::target().join("mesh/shell.log")).unwrap()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The commands of each block in a section of a document, in order. `REGISTRY` is the mesh's own.
pub fn blocks(mesh: &Mesh, document: &str, section: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(files::root().join(document)).unwrap();
    let section = text.split("\n## ").find(|text| text.lines().next() == Some(section)).unwrap();
    let blocks = section.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.map(|block| commands(&block.replace("REGISTRY", &mesh.registry().host()))).collect()
}

/// The commands of a block: lines, with those that they go on in.
fn commands(block: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut command = String::new();
    for line in block.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        command.push_str(line);
        if line.ends_with(['\\', '|']) {
            command.push('\n');
        } else {
            commands.push(std::mem::take(&mut command));
        }
    }
    commands
}
