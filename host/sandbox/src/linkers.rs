//! What a component is linked to: our interfaces, and WASI if it imports that.

use wasmtime::component::Component;

use crate::Linker;

/// One linker for each flavour, so that a pure component cannot meet a WASI function by any way.
pub(crate) struct Linkers<T: Send + 'static> {
    pub(crate) pure: Linker<T>,
    /// Nothing in a sandbox that serves pure components only: what imports WASI then does not link.
    pub(crate) wasi: Option<Linker<T>>,
}

impl<T: Send + 'static> Linkers<T> {
    /// Looks at the component itself and not at what its manifest says. Once for each time that it is loaded.
    pub(crate) fn of(&self, component: &Component) -> &Linker<T> {
        let kind = component.component_type();
        let on_wasi = kind.imports(component.engine()).any(|(name, _)| name.starts_with("wasi:"));
        if on_wasi { self.wasi.as_ref().unwrap_or(&self.pure) } else { &self.pure }
    }
}
