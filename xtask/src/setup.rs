//! Installs what a task needs, after asking once.

use std::env;
use std::io::{self, IsTerminal, Write};

use anyhow::{Result, bail};

use crate::command::{Run, on_path};
use crate::needs::{Installed, Need};

/// Makes sure that every need is met. What is missing is installed when `yes`, in CI, or when the user agrees.
pub(crate) fn ensure(needs: &[Need], yes: bool) -> Result<()> {
    let installed = Installed::read();
    let missing: Vec<Need> = needs.iter().copied().filter(|need| !installed.meets(*need)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let commands = commands(&missing);
    println!("This machine lacks {} of what is needed. To install it:", missing.len());
    commands.iter().for_each(|command| println!("  {command}"));
    if !yes && env::var_os("CI").is_none_or(|ci| ci != "true") && !agrees()? {
        bail!("nothing was installed; run the commands above, or pass --yes");
    }
    commands.into_iter().try_for_each(Run::go)?;
    let installed = Installed::read();
    let still: Vec<&Need> = missing.iter().filter(|need| !installed.meets(**need)).collect();
    if !still.is_empty() {
        bail!("still missing after the installation: {still:?}");
    }
    Ok(())
}

/// Asks whoever sits at the terminal.
fn agrees() -> Result<bool> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    print!("Run these commands? [y/N] ");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// The commands that install what is missing, as few as will do.
fn commands(missing: &[Need]) -> Vec<Run> {
    let mut packages = Vec::new();
    let mut others = Vec::new();
    for need in missing {
        match *need {
            Need::Debian { package, .. } => packages.push(package),
            Need::Pip => packages.push("python3-pip"),
            Need::Target(target) => others.push(Run::new("rustup").args(["target", "add", target])),
            Need::Component(name) => others.push(Run::new("rustup").args(["component", "add", name])),
            Need::Toolchain(name) => {
                others.push(Run::new("rustup").args(["toolchain", "install", name, "--profile", "minimal"]));
            }
            Need::Subcommand(name) => others.push(Run::cargo(["install", "--locked", name])),
        }
    }
    let mut commands = Vec::new();
    if !packages.is_empty() {
        commands.push(apt(["-q", "update"]));
        commands.push(apt(["-q", "install", "--yes", "--no-install-recommends"]).args(packages));
    }
    commands.extend(others);
    commands
}

/// Debian's package manager, by sudo unless this user is root.
fn apt<const N: usize>(args: [&str; N]) -> Run {
    let is_root = Run::new("id").args(["-u"]).output().is_some_and(|id| id.trim() == "0");
    let run = match is_root || !on_path("sudo") {
        true => Run::new("env"),
        false => Run::new("sudo").args(["env"]),
    };
    run.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).args(args)
}
