//! The contract: each function in `contract` takes a store and proves one sentence, so that it runs on every
//! database. `sqlite` and `postgres` have what is each one's own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chains;
mod contract;
mod group_commit;
mod isolation;
mod pinned;
mod postgres;
mod retention;
mod sqlite;
mod support;

/// A test for each contract function, on each database.
macro_rules! on_each_database {
    ($($module:ident :: $name:ident),* $(,)?) => {
        mod on_sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let database = crate::support::Database::new().await;
                    crate::$module::$name(&database.store).await;
                }
            )*
        }
        mod on_postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let database = crate::support::Postgres::new().await;
                    crate::$module::$name(&database.store).await;
                }
            )*
        }
    };
}

on_each_database![
    isolation::a_tenant_neither_sees_nor_changes_anothers_rows,
    contract::nothing_is_kept_without_a_commit,
    contract::a_commit_leaves_its_entry_in_the_right_chain,
    contract::a_tenant_id_is_taken_once,
    contract::a_tenant_is_suspended_and_resumed,
    contract::a_token_is_found_by_its_id_whatever_its_scope,
    contract::a_token_with_a_role_that_its_scope_has_not_is_no_token,
    contract::a_token_is_revoked_once_and_only_in_its_scope,
    contract::a_version_is_final,
    contract::the_latest_version_is_the_highest_and_not_the_newest,
    contract::an_install_is_put_changed_and_removed,
    contract::two_packages_of_a_tenant_cannot_offer_one_skill,
    contract::an_install_needs_its_tenant_and_version,
    contract::what_tenants_are_to_be_told_is_a_queue,
    contract::a_secret_has_one_value_and_versions_that_never_come_back,
    contract::a_run_reads_back_as_it_was_written,
    contract::lists_go_on_where_the_last_page_ended,
    contract::a_tenant_is_shown_what_is_granted_to_it_or_its_tier_or_is_its_own_page_by_page,
    contract::transactions_are_counted,
    chains::concurrent_appends_make_unbroken_chains,
    chains::a_long_chain_is_verified_page_by_page,
    group_commit::a_group_shares_one_transaction,
    group_commit::each_number_of_entries_is_written_whole,
    group_commit::a_run_whose_key_another_host_took_is_recorded_without_its_answer,
    group_commit::a_bad_append_does_not_take_its_neighbours_along,
    group_commit::closing_writes_what_was_taken,
    group_commit::a_caller_that_goes_away_loses_nothing,
    group_commit::a_database_out_of_reach_is_told_to_every_caller,
];
