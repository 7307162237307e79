// Package accounts is the portal's users: sign-up, passwords (kept as bcrypt hashes), expiry of demo users and the start of
// a deletion. It knows nothing of the lines that an account has.
package accounts

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/clearwater-ims/clearwater/nodes/portal/internal/rows"
)

var (
	// ErrNotFound means that there is no such account.
	ErrNotFound = errors.New("no such user")
	// ErrExists means that the address is taken.
	ErrExists = errors.New("email address already exists")
	// ErrPassword means that address or password is wrong.
	ErrPassword = errors.New("incorrect email address or password")
	// ErrBusy means that too many passwords are being checked at the moment.
	ErrBusy = errors.New("too many password checks at a time")
)

// InvalidError is a field that is refused.
type InvalidError struct{ Field, Reason string }

func (e *InvalidError) Error() string { return e.Field + ": " + e.Reason }

// Accounts keeps accounts in the store.
type Accounts struct {
	table rows.Table[rows.Account, *rows.Account]
	now   func() time.Time
	cost  int
	slots chan struct{} // hashing costs tens of milliseconds of CPU by design: bound it
	dummy []byte        // compared for unknown users, so that both answers take as long
}

// New returns the accounts in a store. cost is bcrypt's; 0 means its default.
func New(store rows.Store, now func() time.Time, cost int) (*Accounts, error) {
	if cost == 0 {
		cost = bcrypt.DefaultCost
	}
	dummy, err := bcrypt.GenerateFromPassword([]byte("nobody's password"), cost)
	if err != nil {
		return nil, fmt.Errorf("preparing password hashing: %w", err)
	}
	return &Accounts{
		table: rows.Table[rows.Account, *rows.Account]{Store: store, Name: "account"},
		now:   now, cost: cost, slots: make(chan struct{}, 4), dummy: dummy,
	}, nil
}

var emailPattern = regexp.MustCompile(`^[A-Za-z0-9_.+-]+@[A-Za-z0-9_.-]+$`)

// NewAccount is a sign-up.
type NewAccount struct {
	Email, FullName, Password string
	Expires                   string // days as digits; empty means never
}

// Create signs a user up. Errors: *InvalidError, ErrExists, ErrBusy.
func (a *Accounts) Create(ctx context.Context, n NewAccount) (*rows.Account, error) {
	if len(n.Email) > 254 || !emailPattern.MatchString(n.Email) {
		return nil, &InvalidError{"email", "must be an e-mail address of letters, digits, '_', '.', '+', '-' and one '@'"}
	}
	if n.FullName == "" || len(n.FullName) > 256 {
		return nil, &InvalidError{"full_name", "must have 1 to 256 bytes"}
	}
	var expires int64
	if n.Expires != "" {
		days, err := strconv.ParseUint(n.Expires, 10, 16)
		if err != nil || days == 0 {
			return nil, &InvalidError{"expires", "must be a number of days from 1 to 65535"}
		}
		expires = a.now().AddDate(0, 0, int(days)).Unix()
	}
	hash, err := a.hash(ctx, n.Password)
	if err != nil {
		return nil, err
	}
	account := &rows.Account{Email: n.Email, FullName: n.FullName, PasswordHash: hash, CreatedAt: a.now().Unix(), ExpiresAt: expires}
	if err := a.table.Create(ctx, n.Email, account); errors.Is(err, rows.ErrExists) {
		return nil, ErrExists
	} else if err != nil {
		return nil, fmt.Errorf("creating account: %w", err)
	}
	return account, nil
}

// Get reads an account that may be used: ErrNotFound for one that is being deleted or has expired.
func (a *Accounts) Get(ctx context.Context, email string) (*rows.Account, error) {
	account, err := a.any(ctx, email)
	if err != nil {
		return nil, err
	}
	if account.GetClosing() || a.expired(account) {
		return nil, ErrNotFound
	}
	return account, nil
}

// Login checks a password. Errors: ErrPassword, ErrBusy.
func (a *Accounts) Login(ctx context.Context, email, password string) (*rows.Account, error) {
	account, err := a.Get(ctx, email)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	hash := a.dummy
	if account != nil {
		hash = account.GetPasswordHash()
	}
	release, err := a.slot(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if bcrypt.CompareHashAndPassword(hash, []byte(password)) != nil || account == nil {
		return nil, ErrPassword
	}
	return account, nil
}

// SetPassword replaces a password. It ends the account's sessions, whose signature covers the old hash.
func (a *Accounts) SetPassword(ctx context.Context, email, password string) error {
	hash, err := a.hash(ctx, password)
	if err != nil {
		return err
	}
	_, err = a.table.Update(ctx, email, func(account *rows.Account) error {
		if account.GetClosing() || a.expired(account) {
			return rows.ErrNotFound
		}
		account.PasswordHash = hash
		return nil
	})
	return translate(err)
}

// Close begins a deletion: from here on the account gets no lines and no sessions.
func (a *Accounts) Close(ctx context.Context, email string) error {
	_, err := a.table.Update(ctx, email, func(account *rows.Account) error {
		account.Closing = true
		return nil
	})
	return translate(err)
}

// Remove ends a deletion.
func (a *Accounts) Remove(ctx context.Context, email string) error {
	_, err := a.table.Update(ctx, email, func(*rows.Account) error { return rows.Delete() })
	if errors.Is(err, rows.ErrNotFound) {
		return nil
	}
	return translate(err)
}

// Expired lists the accounts whose time is over.
func (a *Accounts) Expired(ctx context.Context) ([]string, error) {
	var out []string
	err := a.table.Scan(ctx, "", func(email string, account *rows.Account) error {
		if a.expired(account) {
			out = append(out, email)
		}
		return nil
	})
	return out, translate(err)
}

func (a *Accounts) any(ctx context.Context, email string) (*rows.Account, error) {
	if !emailPattern.MatchString(email) || len(email) > 254 {
		return nil, ErrNotFound
	}
	account, err := a.table.Get(ctx, email)
	return account, translate(err)
}

func (a *Accounts) expired(account *rows.Account) bool {
	return account.GetExpiresAt() != 0 && account.GetExpiresAt() <= a.now().Unix()
}

func (a *Accounts) hash(ctx context.Context, password string) ([]byte, error) {
	if len(password) < 6 || len(password) > 72 {
		return nil, &InvalidError{"password", "must have 6 to 72 bytes"}
	}
	release, err := a.slot(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), a.cost)
	if err != nil {
		return nil, fmt.Errorf("hashing password: %w", err)
	}
	return hash, nil
}

// slot waits at most 2 s for its turn.
func (a *Accounts) slot(ctx context.Context) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	select {
	case a.slots <- struct{}{}:
		return func() { <-a.slots }, nil
	case <-ctx.Done():
		return nil, ErrBusy
	}
}

func translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, rows.ErrNotFound):
		return ErrNotFound
	default:
		return fmt.Errorf("accounts: %w", err)
	}
}
