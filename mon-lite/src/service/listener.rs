//! Takes connections, at most [`SESSIONS_MAX`] at a time.

use std::rc::Rc;
use std::time::Duration;

use rt::Group;
use rt::net::Listener;
use rt::sync::{Either, select};

use super::session;
use super::shared::Shared;
use crate::limits::SESSIONS_MAX;

/// Pause after a failed accept: the cause, such as too many open files, does not go away at once.
const PAUSE: Duration = Duration::from_millis(100);

pub async fn run(shared: Rc<Shared>, mut listener: Listener) {
    let Some(pass) = shared.gate.enter() else { return };
    loop {
        let stream = match select(pass.closing(), listener.accept()).await {
            Either::Left(()) => return,
            Either::Right(Ok(stream)) => stream,
            Either::Right(Err(error)) => {
                log::warn!("mon.{}: cannot take a connection: {error}", shared.config.name);
                if matches!(select(pass.closing(), shared.core.sleep(PAUSE)).await, Either::Left(())) {
                    return;
                }
                continue;
            }
        };
        if shared.sessions.get() >= SESSIONS_MAX {
            let who = format!("somebody at {}", stream.peer);
            shared.blame(&who, &format!("{SESSIONS_MAX} are connected, which is the limit"));
            continue;
        }
        if let Some(pass) = shared.gate.enter() {
            let task = session::run(shared.clone(), stream, pass);
            shared.core.spawn(Group::Client, "mon session", task);
        }
    }
}
