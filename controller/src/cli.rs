//! The command line: what the command understands, and which module does it.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use clap::builder::PossibleValuesParser;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use meltemi_codecs::{Codec, Codecs};

use crate::command::{print, written};
use crate::{
    command, crds, dashboard, decode, demo, install, learn, proxies, push, run as controller, sample, screen,
    tap, top, words,
};

/// Layer-7 management of any RPC protocol on a stock Envoy.
#[derive(Debug, Parser)]
#[command(name = "meltemi", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show on a real Envoy, step by step, what Meltemi does with Dubbo calls.
    Demo(demo::Options),
    /// Print one JSON object for each frame of captured bytes, or for each call of a capture of packets.
    Decode {
        /// The protocol that the bytes are of; `auto` takes the one that reads the most of them.
        #[arg(long, default_value = AUTO, value_parser = protocols())]
        protocol: String,
        /// The file with the layout that they are of, in place of a protocol.
        #[arg(long, value_name = "FILE", conflicts_with = "protocol")]
        layout: Option<PathBuf>,
        /// How the bytes are written.
        #[arg(long, value_enum, default_value_t)]
        form: decode::Form,
        /// Show the bytes of each frame too, by field; with a layout, a terminal shows them anyway. Not of captures.
        #[arg(long)]
        dump: bool,
        /// Refuse frames that are longer than this.
        #[arg(long, value_name = "BYTES", default_value_t = decode::MAX_FRAME_BYTES)]
        max_frame_bytes: usize,
        /// A capture of tcpdump or Wireshark, or the bytes that one side sent; `-` or nothing is the standard input.
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Propose a layout for a protocol that nobody described, from a capture of both sides of its connections.
    Learn {
        /// The server to learn from: its port, or its address and port. Default: the one with the most bytes.
        #[arg(long, value_name = "[ADDRESS:]PORT")]
        server: Option<String>,
        /// Print an ApplicationProtocol of this name, in place of the layout alone.
        #[arg(long, value_name = "NAME")]
        protocol: Option<String>,
        /// A capture of tcpdump or Wireshark; `-` or nothing is the standard input.
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Check plans as the filter does, and resources as the cluster and the controller do.
    Validate(command::Validate),
    /// Make the Istio objects of resources.
    Generate(command::Generate),
    /// Tell which route a call meets, what happens to it there, and why no route before it takes it.
    Explain(command::Explain),
    /// Compare the Istio objects of resources with those of a folder or a cluster.
    Diff(command::Diff),
    /// Tell which plan each proxy has, whether it is the one that is wanted, and what it refuses and why.
    ///
    /// The exit code is 1 unless what is wanted is in force everywhere.
    ProxyStatus(proxies::ProxyStatus),
    /// Show the plan that a proxy has.
    ProxyConfig(proxies::ProxyConfig),
    /// Show what goes on in proxies: calls, success, latency, retries, by service, method, client, version and proxy.
    ///
    /// A call that passes two proxies is counted by both: choose the pods of clients, or those of servers.
    Top(top::Top),
    /// Show calls one by one as proxies of a cluster handle them, for a time: where each goes, why, and how it ends.
    ///
    /// A Tap in the cluster has the proxies tell of them; it ends by itself, whatever becomes of this command.
    Tap(Box<tap::Tap>),
    /// Serve a page that shows what goes on in proxies: calls as they move, routes, endpoints, plans and resources.
    Dashboard(dashboard::Dashboard),
    /// Run a sample Dubbo server or client, to try a mesh with.
    Sample(sample::Options),
    /// Print the JSON Schema of plans.
    Schema,
    /// Push the module to a registry, as an image that Istio loads, and print its name with the digest.
    ///
    /// Credentials are those of `docker login` or `podman login`, unless --username is given.
    Push(push::Options),
    /// Print the CustomResourceDefinitions, to be applied to a cluster.
    Crds,
    /// Put the controller into a cluster, print its manifests, or take it away.
    Install(Box<install::Options>),
    /// Run in a cluster: keep its Istio objects as its services and resources want them.
    Run(Box<controller::Options>),
    /// Print the version.
    Version,
    /// Print a script that completes this command in a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Runs the command that the process's arguments name. The exit code is 0 when all went well, 1 when a check failed or
/// something could not be done, 2 when the arguments are wrong.
pub fn run() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(options) => demo::run(&options).map_err(|error| error.to_string()),
        Command::Decode { protocol, layout, form, dump, max_frame_bytes, file } => {
            let sees_bytes = dump || layout.is_some() && io::stdout().is_terminal();
            let view = if sees_bytes { decode::View::Bytes } else { decode::View::Lines };
            codecs(&protocol, layout.as_deref()).and_then(|protocols| {
                decode(&protocols, decode::Manner { max_frame_bytes, form, view }, &file)
            })
        }
        Command::Learn { server, protocol, file } => learn(&learn::Wish { server, protocol }, &file),
        Command::Validate(options) => return ended(options.run()),
        Command::Generate(options) => return ended(options.run()),
        Command::Explain(options) => return ended(options.run()),
        Command::Diff(options) => return options.run(),
        Command::ProxyStatus(options) => return ended(options.run()),
        Command::ProxyConfig(options) => return ended(options.run()),
        Command::Top(options) => return ended(options.run()),
        Command::Tap(options) => return ended(options.run()),
        Command::Dashboard(options) => return ended(options.run()),
        Command::Sample(options) => sample::run(&options).map_err(|error| error.to_string()),
        Command::Schema => print(&format!("{:#}\n", meltemi_proxy::plan::schema())),
        Command::Push(options) => {
            push::run(&options).map_err(|error| error.to_string()).and_then(|line| print(&line))
        }
        Command::Crds => print(&crds::yaml()),
        Command::Install(options) => install::run(&options).and_then(|told| print(&told)),
        Command::Run(options) => controller::run(&options),
        Command::Version => print(&format!("meltemi {}\n", env!("CARGO_PKG_VERSION"))),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "meltemi", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
    };
    ended(outcome.map(|()| ExitCode::SUCCESS))
}

fn ended(outcome: Result<ExitCode, String>) -> ExitCode {
    outcome.unwrap_or_else(|why| {
        screen::fail(why);
        ExitCode::FAILURE
    })
}

/// The name that stands for all protocols.
const AUTO: &str = "auto";

/// The names of the protocols that the command knows: those of the shipped module.
fn protocols() -> PossibleValuesParser {
    PossibleValuesParser::new(Codecs::all().names().chain([AUTO]).map(str::to_owned).collect::<Vec<_>>())
}

/// What bytes may be read by: a layout, or codecs of the command.
fn codecs(protocol: &str, layout: Option<&Path>) -> Result<Vec<Rc<dyn Codec>>, String> {
    if let Some(layout) = layout {
        return Ok(vec![Rc::new(decode::layout::read(layout)?)]);
    }
    let codecs = Codecs::all();
    let is_wanted = |name: &&str| protocol == AUTO || protocol == *name;
    Ok(codecs.names().filter(is_wanted).filter_map(|name| codecs.get(name)).cloned().collect())
}

fn decode(protocols: &[Rc<dyn Codec>], manner: decode::Manner, file: &Path) -> Result<(), String> {
    let (name, input) = open(file)?;
    let mut output: BufWriter<Box<dyn Write>> = BufWriter::new(match manner.view {
        decode::View::Lines => Box::new(io::stdout().lock()),
        decode::View::Bytes => Box::new(anstream::stdout().lock()),
    });
    let outcome = decode::read(protocols, manner, input, &mut output);
    // What was read so far is printed before the error is.
    match (outcome, output.flush()) {
        (Ok(()), Ok(())) => Ok(()),
        (Err(decode::Error::Write(error)), _) | (Ok(()), Err(error)) => written(error),
        (Err(error), _) => Err(format!("{name}: {error}")),
    }
}

/// Prints what was learnt before it says what is wrong with the capture.
fn learn(wish: &learn::Wish, file: &Path) -> Result<(), String> {
    let (name, input) = open(file)?;
    let (text, error) = learn::learn(input, wish);
    print(text.as_deref().unwrap_or_default())?;
    error.map_or(Ok(()), |error| Err(format!("{name}: {error}")))
}

/// An input, and what it is called.
fn open(file: &Path) -> Result<(String, Box<dyn Read>), String> {
    match standard(file) {
        true => Ok(("standard input".to_owned(), Box::new(io::stdin().lock()))),
        false => {
            let input = File::open(file).map_err(|error| unreadable(file, &error))?;
            Ok((file.display().to_string(), Box::new(input)))
        }
    }
}

fn standard(file: &Path) -> bool {
    file.as_os_str() == "-"
}

fn unreadable(file: &Path, error: &io::Error) -> String {
    format!("cannot read {}: {}", file.display(), words::file(error))
}
