//! A broker whose disk is full.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use postrider_bench::now_us;
use postrider_bench::report::Folder;

use super::{BrokerSetting, Row};
use crate::network::run;
use crate::stage::{PROGRESS_WITHIN, Stage};

/// The broker.
const BROKER: usize = 3;
/// Of a disk that the broker's first minutes fit into.
const SIZE: &str = "size=512m";
/// How long a broker has to miss its heartbeats until others lead its partitions.
const FENCED_WITHIN: Duration = Duration::from_secs(9);

/// Row 10.
pub const DISK: Row = Row {
    number: "10",
    name: "disk",
    injected: "the disk of a broker is full; after the time there is room and it is started again",
    holds: "the two other brokers are enough",
    lasts: 30.0,
    prepare,
    run: disk,
};

fn place(folder: &Folder) -> PathBuf {
    folder.file("disk")
}

fn prepare(folder: &Folder) -> anyhow::Result<Vec<BrokerSetting>> {
    let place = place(folder);
    fs::create_dir_all(&place)?;
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(&place);
    run(&mut mount, "")?;
    let logs = place.join("data").display().to_string();
    Ok(vec![(BROKER, "log.dirs".to_owned(), logs)])
}

fn disk(stage: &mut Stage, lasts: Duration) -> anyhow::Result<()> {
    let began_us = now_us();
    stage.note(format!("the disk of broker {BROKER} is full"));
    let path = place(&stage.folder).join("full");
    fill(&path)?;
    // the others take over
    let bound = FENCED_WITHIN + PROGRESS_WITHIN;
    stage.healed("the disk is full", began_us, bound)?;
    stage.hold(lasts);
    fs::remove_file(&path)?;
    stage.note(format!("broker {BROKER} has room and starts again"));
    stage.cluster.kill(BROKER);
    stage.cluster.start_again(&[BROKER]);
    stage.may_lose(None, began_us);
    stage.healed("there is room again", began_us, PROGRESS_WITHIN)?;
    stage.wait_until_whole()
}

/// Takes all room there is.
fn fill(path: &PathBuf) -> anyhow::Result<()> {
    let mut file = File::create(path)?;
    for size in [1 << 20, 1 << 12, 1] {
        let block = vec![b'x'; size];
        loop {
            match file.write_all(&block) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}
