//! A network of namespaces: one for each broker and worker, all on one bridge.
//!
//! Decides who has which address, and how packets between two of them are dropped or answered with
//! a reset. The program itself, the receivers and the load are in the namespace with the bridge,
//! which nobody cuts off. Namespaces live as long as a process in each that ends with this one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, ensure};
use postrider_test_support::unshare_arguments;

/// Where receivers are, as workers see them.
pub const HUB: &str = "10.77.0.254";
/// Where they listen, behind it: the side door. The main one takes no packets from other devices
/// than the loopback.
pub const RECEIVERS: &str = "127.0.0.2";
/// The brokers.
pub const BROKERS: [usize; 3] = [1, 2, 3];
/// Where the brokers' clients connect to.
const BROKER_PORT: u16 = 9092;

/// The namespace of a broker.
pub fn broker(id: usize) -> String {
    format!("broker-{id}")
}

/// The address of a broker.
pub fn broker_address(id: usize) -> String {
    format!("10.77.0.{id}")
}

/// Runs this program once more, with these arguments and `--inside`, in namespaces of its own;
/// whether it ended well.
///
/// # Errors
/// Namespaces are not permitted here, or a tool is missing.
pub fn enter(arguments: impl Iterator<Item = OsString>) -> anyhow::Result<bool> {
    let unshare = unshare_arguments().map_err(anyhow::Error::msg)?;
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "unshare"])
        .args(unshare);
    command
        .arg("--")
        .arg(std::env::current_exe()?)
        .args(arguments);
    command.arg("--inside");
    Ok(command.status()?.success())
}

/// The namespaces, by name.
pub struct Network {
    spaces: BTreeMap<String, Space>,
}

struct Space {
    address: String,
    keeper: Child,
    /// `None` only while dropping: closing it ends the keeper.
    input: Option<ChildStdin>,
}

impl Network {
    /// In the namespace this program is in.
    ///
    /// # Errors
    /// A tool is missing or fails; its message is in the error.
    pub fn make() -> anyhow::Result<Self> {
        for line in [
            "link set lo up".to_owned(),
            "link add hub type bridge".to_owned(),
            format!("addr add {HUB}/24 dev hub"),
            "link set hub up".to_owned(),
        ] {
            run(Command::new("ip").args(line.split(' ')), "")?;
        }
        for (name, value) in [
            ("ip_forward", "1"),
            // packets come back by other ways than they went
            ("conf/all/rp_filter", "0"),
            ("conf/default/rp_filter", "0"),
            ("conf/hub/rp_filter", "0"),
            // receivers listen on the loopback; the workers come from elsewhere
            ("conf/hub/route_localnet", "1"),
        ] {
            fs::write(format!("/proc/sys/net/ipv4/{name}"), value)?;
        }
        let receivers = format!(
            "table ip receivers {{\n chain in {{\n  type nat hook prerouting priority -100;\n  \
             ip daddr {HUB} dnat to {RECEIVERS}\n }}\n}}\n"
        );
        run(Command::new("nft").args(["-f", "-"]), &receivers)?;
        let mut network = Self {
            spaces: BTreeMap::new(),
        };
        for id in BROKERS {
            network.add(&broker(id), &broker_address(id))?;
        }
        Ok(network)
    }

    /// Adds a namespace with this name (at most 13 letters) and address.
    ///
    /// # Errors
    /// A tool fails.
    pub fn add(&mut self, name: &str, address: &str) -> anyhow::Result<()> {
        let mut keeper = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", "echo made; exec cat >/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = keeper.stdin.take();
        let mut said = String::new();
        BufReader::new(keeper.stdout.take().context("piped above")?).read_line(&mut said)?;
        ensure!(said.trim() == "made", "no namespace for {name}");
        let pid = keeper.id().to_string();
        let space = Space {
            address: address.to_owned(),
            keeper,
            input,
        };
        self.spaces.insert(name.to_owned(), space);
        let link = format!("v-{name}");
        let words = ["link", "add", &link, "type", "veth", "peer", "name", "eth0"];
        run(Command::new("ip").args(words).args(["netns", &pid]), "")?;
        for conf in ["all", "default", "eth0"] {
            let order = format!("tee /proc/sys/net/ipv4/conf/{conf}/rp_filter");
            self.run(name, &order, "0")?;
        }
        let words = ["link", "set", &link, "master", "hub", "up"];
        run(Command::new("ip").args(words), "")?;
        for line in [
            "link set lo up".to_owned(),
            format!("addr add {address}/24 dev eth0"),
            "link set eth0 up".to_owned(),
        ] {
            self.run(name, &format!("ip {line}"), "")?;
        }
        let table = "table inet faults {\n chain in { type filter hook input priority 0; }\n \
                     chain out { type filter hook output priority 0; }\n}\n";
        self.run(name, "nft -f -", table)
    }

    /// The words of a command that runs another in a namespace.
    pub fn within(&self, name: &str) -> Vec<String> {
        let pid = self.spaces[name].keeper.id().to_string();
        ["nsenter", "--target", &pid, "--net", "--"]
            .map(str::to_owned)
            .into()
    }

    /// The address in a namespace.
    pub fn address(&self, name: &str) -> &str {
        &self.spaces[name].address
    }

    /// The process that a namespace lives as long as.
    pub fn keeper(&self, name: &str) -> u32 {
        self.spaces[name].keeper.id()
    }

    /// Nothing that an address sends arrives in a namespace any more.
    ///
    /// # Errors
    /// `nft` fails.
    pub fn deafen(&self, name: &str, to: &str) -> anyhow::Result<()> {
        self.rule(name, &format!("in ip saddr {to} drop"))
    }

    /// Nothing goes between a namespace and an address any more.
    ///
    /// # Errors
    /// `nft` fails.
    pub fn cut(&self, name: &str, from: &str) -> anyhow::Result<()> {
        self.deafen(name, from)?;
        self.rule(name, &format!("out ip daddr {from} drop"))
    }

    /// So many of 100 packets to the broker of a namespace are answered with a reset.
    ///
    /// # Errors
    /// `nft` fails.
    pub fn reset(&self, name: &str, percent: u32) -> anyhow::Result<()> {
        let what = format!(
            "in tcp dport {BROKER_PORT} numgen random mod 100 < {percent} reject with tcp reset"
        );
        self.rule(name, &what)
    }

    /// All that was done to the packets of a namespace is over.
    ///
    /// # Errors
    /// `nft` fails.
    pub fn heal(&self, name: &str) -> anyhow::Result<()> {
        self.run(name, "nft flush table inet faults", "")
    }

    fn rule(&self, name: &str, rule: &str) -> anyhow::Result<()> {
        self.run(name, &format!("nft add rule inet faults {rule}"), "")
    }

    /// Runs a command in a namespace to its end.
    ///
    /// # Errors
    /// It fails; its message is in the error.
    pub fn run(&self, name: &str, words: &str, input: &str) -> anyhow::Result<()> {
        let within = self.within(name);
        let mut all = within.iter().map(String::as_str).chain(words.split(' '));
        let mut command = Command::new(all.next().context("a command")?);
        run(command.args(all), input)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        drop(self.input.take());
        // it ends with its input
        drop(self.keeper.wait());
    }
}

/// Runs a command to its end.
///
/// # Errors
/// It fails; its message is in the error.
pub fn run(command: &mut Command, input: &str) -> anyhow::Result<()> {
    let what = format!("{command:?}");
    let missing =
        || format!("{what} cannot be started; Debian has it in iproute2, nftables, mount");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(missing)?;
    let mut pipe = child.stdin.take().context("piped above")?;
    pipe.write_all(input.as_bytes())?;
    drop(pipe);
    let ended = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "{what}: {said}");
    Ok(())
}
