package keystore

// The mount's settings.

import (
	"context"

	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/kms"
)

// The values of Settings.AliasScope.
const (
	ScopeFolder = "folder" // an alias may point only at keys of its own folder
	ScopeAny    = "any"    // at any key
)

// Settings is the stored record of the mount's settings.
type Settings struct {
	PendingWindowInDays int `json:"pending_window_in_days"` // the default waiting period of deletions
	// MinPendingWindowInDays is the shortest waiting period; 0 is KMS's own.
	MinPendingWindowInDays int    `json:"min_pending_window_in_days,omitempty"`
	AliasScope             string `json:"alias_scope"`
}

// MinPendingWindow returns the shortest waiting period of deletions in days.
func (s Settings) MinPendingWindow() int {
	return max(s.MinPendingWindowInDays, kms.MinPendingWindowDays)
}

// validate refuses settings that make no sense.
func (s Settings) validate() error {
	if err := kms.CheckPendingWindow(s.PendingWindowInDays); err != nil {
		return err
	}
	if shortest := s.MinPendingWindowInDays; shortest != 0 && kms.CheckPendingWindow(shortest) != nil {
		return kms.Validationf("min_pending_window_in_days must be between %d and %d", kms.MinPendingWindowDays, kms.MaxPendingWindowDays)
	}
	if s.PendingWindowInDays < s.MinPendingWindow() {
		return kms.Validationf("pending_window_in_days, which is %d, must not be less than min_pending_window_in_days, which is %d", s.PendingWindowInDays, s.MinPendingWindow())
	}
	if s.AliasScope != ScopeFolder && s.AliasScope != ScopeAny {
		return kms.Validationf("alias_scope must be %s or %s", ScopeFolder, ScopeAny)
	}
	return nil
}

// Settings returns the mount's settings, defaults where nothing is stored.
func (st *Store) Settings(ctx context.Context, s logical.Storage) (Settings, error) {
	if settings := st.settings.Load(); settings != nil {
		return *settings, nil
	}
	defer st.readLock(settingsKey)()
	return st.loadSettings(ctx, s)
}

// peekSettings is Settings for those who hold locks already: that of the settings
// may be among them.
func (st *Store) peekSettings(ctx context.Context, s logical.Storage) (Settings, error) {
	if settings := st.settings.Load(); settings != nil {
		return *settings, nil
	}
	return readSettings(ctx, s)
}

// loadSettings reads the settings and publishes them. The caller holds their
// lock.
func (st *Store) loadSettings(ctx context.Context, s logical.Storage) (Settings, error) {
	settings, err := readSettings(ctx, s)
	if err == nil {
		st.publishSettings(settings)
	}
	return settings, err
}

// readSettings reads the settings from storage.
func readSettings(ctx context.Context, s logical.Storage) (Settings, error) {
	settings, err := load[Settings](ctx, s, settingsKey)
	if err != nil {
		return Settings{}, err
	}
	if settings == nil {
		settings = &Settings{PendingWindowInDays: kms.MaxPendingWindowDays, AliasScope: ScopeFolder}
	}
	return *settings, nil
}

func (st *Store) publishSettings(settings Settings) {
	if st.mayCache(settingsKey) {
		st.settings.Store(&settings)
	}
}

// ChangeSettings lets change alter the mount's settings, and stores and returns
// them if they are valid.
func (st *Store) ChangeSettings(ctx context.Context, s logical.Storage, change func(*Settings)) (Settings, error) {
	ctx, w, err := st.begin(ctx, s, settingsKey)
	if err != nil {
		return Settings{}, err
	}
	defer w.end()
	settings, err := st.loadSettings(ctx, s)
	if err != nil {
		return settings, err
	}
	change(&settings)
	if err := settings.validate(); err != nil {
		return settings, err
	}
	if err := w.put(settingsKey, settings); err != nil {
		return settings, err
	}
	st.publishSettings(settings)
	return settings, nil
}
