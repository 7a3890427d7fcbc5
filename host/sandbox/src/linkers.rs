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

#[cfg(test)]
mod tests {
    use wasmtime::Engine;

    use super::*;
    use crate::Guest;

    #[test]
    fn a_pure_component_cannot_meet_a_function_of_wasi() {
        let engine = Engine::default();
        let component = |text: &str| Component::new(&engine, wat::parse_str(text).unwrap()).unwrap();
        let pure: Linker<()> = Linker::new(&engine);
        let mut wasi = pure.clone();
        let now = |_: wasmtime::StoreContextMut<'_, Guest<()>>, (): ()| Ok((7_u64,));
        wasi.instance("wasi:clocks/monotonic-clock@0.2.6").unwrap().func_wrap("now", now).unwrap();
        let linkers = Linkers { pure, wasi: Some(wasi) };
        let nothing = component("(component)");
        let clock = component(
            r#"(component (import "wasi:clocks/monotonic-clock@0.2.0" (instance (export "now" (func (result u64))))))"#,
        );
        assert!(std::ptr::eq(linkers.of(&nothing), &raw const linkers.pure));
        assert!(linkers.of(&clock).instantiate_pre(&clock).is_ok());
        assert!(linkers.pure.instantiate_pre(&clock).is_err());
        let only_pure = Linkers { wasi: None, ..linkers };
        assert!(only_pure.of(&clock).instantiate_pre(&clock).is_err());
    }
}
