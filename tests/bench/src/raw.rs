//! The baseline: the same component on the bare engine, with the same engine settings for what makes calls cheap
//! (pooling, no component async) and none of Clawhold: no fuel, no epochs, no limiter, no policy, no record.

use clawhold_sandbox::contract::exports::clawhold::skill::handler::Context;
use clawhold_sandbox::contract::{self, SecretHandle};
use wasmtime::component::{Component, HasSelf, Linker, Resource};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, StoreLimits, StoreLimitsBuilder,
    UpdateDeadline,
};

use crate::setup::INPUT;

/// Host functions that are never called.
struct Nothing(StoreLimits);

pub(crate) struct Raw {
    engine: Engine,
    skill: contract::SkillPre<Nothing>,
    context: Context,
    metered: bool,
}

impl Raw {
    /// With `metered`, fuel, epochs and a limiter are on, as the sandbox has them.
    pub(crate) fn new(wasm: &[u8], skill: &str, metered: bool) -> anyhow::Result<Self> {
        Self::with(wasm, skill, metered, 0, 0)
    }

    /// With the sandbox's pool as well: a slot keeps so many bytes of a memory and of a table.
    pub(crate) fn keeping(wasm: &[u8], skill: &str) -> anyhow::Result<Self> {
        Self::with(wasm, skill, false, 256 << 10, 16 << 10)
    }

    fn with(wasm: &[u8], skill: &str, metered: bool, memory: usize, table: usize) -> anyhow::Result<Self> {
        let mut pool = PoolingAllocationConfig::new();
        pool.max_memory_size(128 << 20).linear_memory_keep_resident(memory).table_keep_resident(table);
        let mut config = Config::new();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool)).concurrency_support(false);
        config.consume_fuel(metered).epoch_interruption(metered);
        let engine = Engine::new(&config)?;
        let mut linker = Linker::new(&engine);
        contract::Skill::add_to_linker::<_, HasSelf<Nothing>>(&mut linker, |nothing: &mut Nothing| nothing)?;
        let exports = contract::SkillPre::new(linker.instantiate_pre(&Component::new(&engine, wasm)?)?)?;
        let context = Context {
            tenant_id: "acme-corp".to_owned(),
            run_id: "01900000-0000-7000-8000-000000000000".to_owned(),
            trace_id: "0".repeat(31) + "1",
            caller: "token:bench".to_owned(),
            skill: skill.to_owned(),
            now_ms: 0,
            deadline_ms: 10_000,
            settings: "{}".to_owned(),
        };
        Ok(Self { engine, skill: exports, context, metered })
    }

    pub(crate) fn engine(&self) -> Engine {
        self.engine.clone()
    }

    /// A fresh instance and one call.
    pub(crate) async fn call(&self) -> anyhow::Result<String> {
        let mut store = Store::new(&self.engine, Nothing(StoreLimitsBuilder::new().memory_size(64 << 20).build()));
        if self.metered {
            store.limiter(|nothing| &mut nothing.0);
            store.set_fuel(1_000_000_000)?;
            store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Continue(1)));
            store.set_epoch_deadline(1);
        }
        let guest = self.skill.instantiate_async(&mut store).await?;
        let answer = guest.clawhold_skill_handler().call_handle(&mut store, &self.context, INPUT).await?;
        answer.map_err(|error| anyhow::anyhow!("{error:?}"))
    }
}

mod unused {
    //! The contract wants all imports; the echo calls none.
    use clawhold_sandbox::contract::clawhold::skill::{audit, http, secrets, types};
    use wasmtime::Result;

    use super::{Nothing, Resource, SecretHandle};

    impl types::Host for Nothing {}

    impl audit::Host for Nothing {
        fn record(&mut self, _: String, _: String, _: audit::Outcome, _: String) -> Result<Result<(), audit::Error>> {
            Ok(Ok(()))
        }
        fn log(&mut self, _: audit::Level, _: String) -> Result<()> {
            Ok(())
        }
    }

    impl http::Host for Nothing {
        async fn send(&mut self, _: http::Request) -> Result<Result<http::Response, http::Error>> {
            Err(wasmtime::Error::msg("not in this benchmark"))
        }
    }

    impl secrets::Host for Nothing {
        async fn get(&mut self, _: String) -> Result<Result<Resource<SecretHandle>, secrets::Error>> {
            Ok(Err(secrets::Error::NotFound))
        }
    }

    impl secrets::HostSecret for Nothing {
        async fn field(
            &mut self,
            _: Resource<SecretHandle>,
            _: String,
        ) -> Result<Result<Resource<SecretHandle>, secrets::Error>> {
            Ok(Err(secrets::Error::NotFound))
        }
        async fn reveal(&mut self, _: Resource<SecretHandle>) -> Result<Result<String, secrets::Error>> {
            Ok(Err(secrets::Error::NotFound))
        }
        async fn hmac_sha256(
            &mut self,
            _: Resource<SecretHandle>,
            _: Vec<u8>,
        ) -> Result<Result<Vec<u8>, secrets::Error>> {
            Ok(Err(secrets::Error::NotFound))
        }
        async fn drop(&mut self, _: Resource<SecretHandle>) -> Result<()> {
            Ok(())
        }
    }
}
