//! Errors that end `walsim-live receive` with a real server, compared with pg_receivewal.

use super::*;

/// A primary and an older copy of it. The copy is a server with a port of its own.
struct Copies {
    primary: Server,
    copy: Server,
    receiver: Receiver,
}

/// Makes a primary and a copy of it. The receiver has WAL from the primary that the copy does not
/// have.
fn copied(bin: &Path, folder: &Folder) -> Copies {
    let mut primary = primary(bin, folder, KEEP);
    primary.stop(Stop::Fast);
    let data = folder.path().join("copy");
    run(as_postgres("cp").arg("-a").arg(primary.data()).arg(&data));
    let copy = Server::at(bin, &data);
    copy.configure(KEEP);
    primary.start();
    let mut receiver = Receiver::new(folder.path(), "wal");
    receiver.start(&primary, &[]);
    wait_for("the stream", || receiver.partial().is_some());
    for _ in 0..3 {
        catch_up(&primary, &receiver);
    }
    receiver.signal("INT");
    assert_eq!(receiver.wait().code(), Some(0));
    Copies {
        primary,
        copy,
        receiver,
    }
}

/// Checks that both receivers end with the error that pg_receivewal prints with --no-loop.
/// walsim-live also ends without --no-loop. It adds a hint, and its status is 1.
fn both_end(bin: &Path, copies: &mut Copies, text: &str, hint: &str) {
    let Copies { copy, receiver, .. } = copies;
    let before = receiver.finished();
    let said = |receiver: &Receiver, from: usize| receiver.err()[from..].to_string();
    for theirs in [true, false] {
        let from = receiver.err().len();
        if !theirs {
            receiver.start(copy, &[]);
        } else if bin.join("pg_receivewal").exists() {
            receiver.start_pg_receivewal(copy, &["--no-loop"]);
        } else {
            continue;
        }
        let code = receiver.wait().code();
        let said = said(receiver, from);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(text), "{said}");
        assert!(theirs || said.contains(&format!("hint: {hint}")), "{said}");
    }
    assert_eq!(receiver.finished(), before);
}

/// The server was promoted at a position before the receiver's position. The WAL in the directory
/// is therefore not in the server's history.
#[test]
fn a_fork_before_the_start_is_a_permanent_error() {
    let Some(bin) = server_bin() else {
        return;
    };
    let folder = Folder::new("receive-fork");
    let mut copies = copied(&bin, &folder);
    run(as_postgres("touch").arg(copies.copy.data().join("standby.signal")));
    copies.copy.start();
    copies.copy.psql("SELECT pg_promote()");
    for _ in 0..5 {
        copies
            .copy
            .psql("SELECT pg_logical_emit_message(false, '', '')");
        copies.copy.psql("SELECT pg_switch_wal()");
    }
    both_end(
        &bin,
        &mut copies,
        "on timeline 1 is not in this server's history\nDETAIL:  This server's history forked from timeline 1 at ",
        "The directory holds WAL that is not in the server's history.",
    );
    drop(copies.primary);
}

/// The server was restored from an older backup. At the receiver's position it will write other
/// WAL.
#[test]
fn a_server_that_is_behind_is_a_permanent_error() {
    let Some(bin) = server_bin() else {
        return;
    };
    let folder = Folder::new("receive-behind");
    let mut copies = copied(&bin, &folder);
    copies.primary.stop(Stop::Fast);
    copies.copy.start();
    both_end(
        &bin,
        &mut copies,
        "is ahead of the WAL flush position of this server",
        "The directory holds WAL that is not in the server's history.",
    );
}

/// If the slot does not exist, walsim-live ends. pg_receivewal would retry forever.
#[test]
fn a_missing_slot_is_a_permanent_error() {
    let Some(bin) = server_bin() else {
        return;
    };
    let folder = Folder::new("receive-no-slot");
    let server = primary(&bin, &folder, KEEP);
    let mut receiver = Receiver::new(folder.path(), "wal");
    // If the directory is empty, the receiver reads the slot first. If the directory is not empty,
    // the receiver starts to stream from the slot. Both commands fail without the slot.
    for said in [
        "error: replication slot \"none\" does not exist\n",
        "error: could not send replication command \"START_REPLICATION\": ERROR:  replication slot \"none\" does not exist\n",
    ] {
        receiver.start(&server, &["--slot=none"]);
        assert_eq!(receiver.wait().code(), Some(1), "{}", receiver.err());
        let hint = "walsim-live: hint: Create the slot with --create-slot, or name another one.\n";
        assert!(
            receiver.err().ends_with(&format!("{said}{hint}")),
            "{}",
            receiver.err()
        );
        receiver.start(&server, &[]);
        wait_for("the stream", || receiver.partial().is_some());
        catch_up(&server, &receiver);
        receiver.signal("INT");
        receiver.wait();
    }
}

/// Another tool left a partial file that is too short. The receiver pads the file and continues.
#[test]
fn a_partial_file_of_odd_size_is_padded() {
    let Some(bin) = server_bin() else {
        return;
    };
    let folder = Folder::new("receive-odd");
    let server = primary(&bin, &folder, KEEP);
    let mut receiver = Receiver::new(folder.path(), "wal");
    for len in [100, 0, 500_000] {
        receiver.start(&server, &[]);
        wait_for("the stream", || receiver.partial().is_some());
        catch_up(&server, &receiver);
        server.psql("SELECT pg_logical_emit_message(false, '', '')");
        wait_for("the next file", || receiver.partial().is_some());
        receiver.kill();
        let file = format!("{}.partial", receiver.partial().expect("it was there"));
        let file = fs::File::options()
            .write(true)
            .open(receiver.dir().join(file));
        file.and_then(|file| file.set_len(len)).expect("it is ours");
    }
    receiver.start(&server, &[]);
    catch_up(&server, &receiver);
    receiver.signal("INT");
    assert_eq!(receiver.wait().code(), Some(0), "{}", receiver.err());
    assert!(receiver.compare(&server) >= 4, "{:?}", receiver.finished());
}
