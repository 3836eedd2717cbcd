package gateway

// CreateKey, DescribeKey and GetKeyLastUsage.

import (
	"strings"
	"time"

	"github.com/google/uuid"

	"vault-plugin-secrets-kms-hmac/kms"
)

// metadata is the native description of a key (docs/api.md, "Describe a key").
type metadata struct {
	KeyID           string            `json:"key_id"`
	KeySpec         kms.KeySpec       `json:"key_spec"`
	KeyUsage        string            `json:"key_usage"`
	MacAlgorithms   []string          `json:"mac_algorithms"`
	KeyState        kms.KeyState      `json:"key_state"`
	Enabled         bool              `json:"enabled"`
	Origin          string            `json:"origin"`
	KeyManager      string            `json:"key_manager"`
	MultiRegion     bool              `json:"multi_region"`
	Description     string            `json:"description"`
	CreationDate    time.Time         `json:"creation_date"`
	DeletionDate    time.Time         `json:"deletion_date"`
	ExpirationModel string            `json:"expiration_model"`
	ValidTo         time.Time         `json:"valid_to"`
	Tags            map[string]string `json:"tags"`
}

func (m *metadata) facts() kms.Facts {
	return kms.Facts{ID: m.KeyID, Spec: m.KeySpec, Origin: m.Origin, State: m.KeyState}
}

// keyMetadata returns KMS's KeyMetadata with the members that it has for an
// HMAC key in this state, and no others.
func (c *call) keyMetadata(m *metadata) object {
	id := c.folder.local(m.KeyID)
	arn := c.arns().key(id)
	o := object{
		{"AWSAccountId", c.arns().Account},
		{"KeyId", id},
		{"Arn", arn},
		{"CreationDate", milliseconds(m.CreationDate)},
		{"Enabled", m.Enabled},
		{"Description", m.Description},
		{"KeyUsage", m.KeyUsage},
		{"KeyState", string(m.KeyState)},
		{"DeletionDate", milliseconds(m.DeletionDate)},
		{"ValidTo", seconds(m.ValidTo)},
		{"Origin", m.Origin},
		{"ExpirationModel", optional(m.ExpirationModel)},
		{"KeyManager", m.KeyManager},
		{"CustomerMasterKeySpec", string(m.KeySpec)},
		{"KeySpec", string(m.KeySpec)},
		{"MultiRegion", m.MultiRegion},
	}
	if m.MultiRegion {
		o = append(o, field{"MultiRegionConfiguration", object{
			{"MultiRegionKeyType", "PRIMARY"},
			{"PrimaryKey", object{{"Arn", arn}, {"Region", c.arns().Region}}},
			{"ReplicaKeys", []object{}},
		}})
	}
	return append(o, field{"MacAlgorithms", m.MacAlgorithms})
}

// checkCreateKey applies the rules of CreateKey that are in no model. Unlike
// the native API, KMS wants KeyUsage spelled out for HMAC keys.
func checkCreateKey(c *call, in input) error {
	spec, synonym := in.text("KeySpec"), in.text("CustomerMasterKeySpec")
	if spec != "" && synonym != "" {
		return kms.Validationf("You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated.")
	}
	if in.text("CustomKeyStoreId") != "" || in.text("XksKeyId") != "" {
		return errNoCustomKeyStores
	}
	if err := kms.CheckNewKey(kms.KeySpec(spec+synonym), in.text("KeyUsage"), in.text("Origin")); err != nil {
		return err
	}
	if err := kms.CheckTags(kms.TagsFrom(in["Tags"])); err != nil {
		return err
	}
	if policy := in.text("Policy"); policy != "" {
		return kms.CheckKeyPolicy(policy, c.arns().root())
	}
	return nil
}

// createKey creates a key in the folder. The mount chooses the ids of keys in
// no folder; in a folder the endpoint does, in the same way.
func createKey(c *call, in input) (answer, error) {
	fields := c.fields([]string{"KeyUsage", "Origin", "MultiRegion", "Description", "Tags", "Policy"}, in)
	fields["key_spec"] = in.text("KeySpec") + in.text("CustomerMasterKeySpec")
	path := "keys"
	if c.folder != "" {
		path += "/" + c.folder.native(newKeyID(in.flag("MultiRegion")))
	}
	var m metadata
	if err := c.post(path, fields, &m); err != nil {
		return nil, err
	}
	return answer{{"KeyMetadata", c.keyMetadata(&m)}}, nil
}

func newKeyID(multiRegion bool) string {
	id := uuid.NewString()
	if multiRegion {
		return "mrk-" + strings.ReplaceAll(id, "-", "")
	}
	return id
}

func describeKey(c *call, _ input) (answer, error) {
	m, err := c.describe()
	if err != nil {
		return nil, err
	}
	return answer{{"KeyMetadata", c.keyMetadata(m)}}, nil
}

// describe reads the call's key. An alias takes one request where the caller
// may read keys/alias/..., and two where its policies are written for the
// alias and for the key.
func (c *call) describe() (*metadata, error) {
	m, err := c.read()
	if forbidden(err) && c.key.alias {
		var viaAlias *metadata
		if viaAlias, err = c.readByAlias(err); err == nil {
			return viaAlias, nil
		}
	}
	if forbidden(err) {
		m, err = c.readGranted(err)
	}
	return m, err
}

// read reads the call's key; NotFoundException where there is none.
func (c *call) read() (*metadata, error) {
	var m metadata
	if err := c.get("keys/"+c.key.native, &m); err != nil {
		return nil, c.orNotFound(err)
	}
	return &m, nil
}

// orNotFound turns the answer of a read that found nothing into KMS's.
func (c *call) orNotFound(err error) error {
	switch {
	case !missing(err):
		return err
	case c.key.alias:
		return kms.AliasNotFound(c.key.arn)
	default:
		return c.arns().noSuchKey(c.key.id, c.key.fromARN)
	}
}

// readByAlias reads the alias and then its key. denied is the error where the
// caller may not do that either.
func (c *call) readByAlias(denied error) (*metadata, error) {
	var alias aliasRecord
	if err := c.get("aliases/"+strings.TrimPrefix(c.key.native, kms.AliasPrefix), &alias); err != nil {
		if forbidden(err) {
			return nil, denied
		}
		return nil, c.orNotFound(err)
	}
	var m metadata
	if err := c.get("keys/"+alias.TargetKeyID, &m); err != nil {
		if forbidden(err) {
			return nil, denied
		}
		return nil, c.orNotFound(err)
	}
	return &m, nil
}

// readGranted reads the key by grace of a grant. Grants are in force at once,
// so it needs no grant token, and the mount takes none there.
func (c *call) readGranted(denied error) (*metadata, error) {
	var m metadata
	if err := c.post("granted/describe-key/"+c.key.native, nil, &m); err != nil {
		if forbidden(err) {
			return nil, denied
		}
		return nil, err
	}
	return &m, nil
}

func checkPendingWindow(_ *call, in input) error {
	return kms.CheckPendingWindow(in.number("PendingWindowInDays", kms.MaxPendingWindowDays))
}

func getKeyLastUsage(c *call, _ input) (answer, error) {
	var native struct {
		KeyID    string    `json:"key_id"`
		Created  time.Time `json:"key_creation_date"`
		Tracking time.Time `json:"tracking_start_date"`
		Last     struct {
			Operation string    `json:"operation"`
			Timestamp time.Time `json:"timestamp"`
		} `json:"key_last_usage"`
	}
	if err := c.get("get-key-last-usage/"+c.key.native, &native); err != nil {
		return nil, c.orNotFound(err)
	}
	return answer{
		{"KeyId", c.arns().key(c.folder.local(native.KeyID))},
		{"KeyLastUsage", object{{"Operation", optional(native.Last.Operation)}, {"Timestamp", milliseconds(native.Last.Timestamp)}}},
		{"TrackingStartDate", milliseconds(native.Tracking)},
		{"KeyCreationDate", milliseconds(native.Created)},
	}, nil
}
