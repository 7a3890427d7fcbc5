//! `clawhold:skill@0.1.0` as the host sees it, generated from `wit/`.

use std::sync::Arc;

/// What stands behind a guest's handle: an index that means something only to the run that made it.
#[derive(Debug, Clone)]
pub struct SecretHandle {
    /// The secret's name.
    pub name: Arc<str>,
    /// The field of it that the handle stands for.
    pub field: Option<Arc<str>>,
}

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "skill",
    imports: {
        "clawhold:skill/audit": trappable,
        default: async | trappable,
    },
    exports: { default: async },
    with: { "clawhold:skill/secrets.secret": SecretHandle },
});
