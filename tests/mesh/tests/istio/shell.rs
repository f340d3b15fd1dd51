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

/// The shell of a user at the root of a checkout, with all rights in the cluster. It ends with the first command that fails.
pub struct Shell {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _checkout: TempDir,
}

impl Shell {
    /// Starts one. `meltemi` is the program of that path.
    pub fn start(mesh: &Mesh, meltemi: &str) -> Self {
        // Commands may change samples. The rest is what it is.
        let checkout = tempfile::tempdir().unwrap();
        files::run(
            Command::new("cp").arg("-r").arg(files::root().join("istio-samples")).arg(checkout.path()),
        );
        for folder in ["controller", "deploy"] {
            symlink(files::root().join(folder), checkout.path().join(folder)).unwrap();
        }
        let logs = checkout::target().join("mesh");
        fs::create_dir_all(&logs).unwrap();
        let mut command = Command::new("bash");
        command
            .current_dir(checkout.path())
            .env("KUBECONFIG", mesh.cluster().kubeconfig())
            .env("KUBECACHEDIR", checkout.path().join(".kube"))
            .env("ROOT", files::root())
            .env("MELTEMI", meltemi)
            .env("LOGS", &logs)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(logs.join("shell.log")).unwrap());
        let mut child = mesh.network().control().enter(|| command.spawn()).unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut shell = Self { child, input, output, _checkout: checkout };
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
