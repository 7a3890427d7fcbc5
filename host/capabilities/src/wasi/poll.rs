//! `wasi:io/poll`, with a limit on how much one call may wait for.

use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::io::poll::{Host, HostPollable};

/// Pollables in one call. A list may name the same one again and again, and nothing interrupts the host while it
/// looks at each. Twice as many as a run can hold, so an honest program never meets it.
const LIST: usize = 1024;

pub(crate) struct Polls<'a>(pub(crate) &'a mut ResourceTable);

impl HasData for Polls<'static> {
    type Data<'a> = Polls<'a>;
}

impl Host for Polls<'_> {
    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        if pollables.len() > LIST {
            let given = pollables.len();
            return Err(wasmtime::Error::msg(format!("poll was given {given} pollables, {LIST} are allowed")));
        }
        Host::poll(self.0, pollables).await
    }
}

impl HostPollable for Polls<'_> {
    async fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        HostPollable::block(self.0, pollable).await
    }

    async fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        HostPollable::ready(self.0, pollable).await
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        HostPollable::drop(self.0, pollable)
    }
}
