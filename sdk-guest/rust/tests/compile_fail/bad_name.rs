use clawhold_skill::skill;

/// Finds an account.
#[skill(name = "crm find")]
fn find_account(name: String) -> String {
    name
}

/// Finds an account.
#[skill(name = "crm.find_an_account_by_its_name_or_by_its_number_or_by_whatever_you_have")]
fn find_account_somehow(name: String) -> String {
    name
}

/// Finds an account.
#[skill(name = "")]
fn find_nothing(name: String) -> String {
    name
}

/// Finds an account.
#[skill(title = "Find an account")]
fn find_titled(name: String) -> String {
    name
}

fn main() {}
