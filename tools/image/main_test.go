package main

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

const version = "v9.8.7"

// release makes a folder as make release does, and returns what is in it by
// its names.
func release(t *testing.T) (dist string, files map[string][]byte) {
	t.Helper()
	dist, files = t.TempDir(), map[string][]byte{}
	for _, program := range programs {
		for _, suffix := range []string{"linux_amd64", "linux_arm64", "darwin_arm64", "linux_amd64.cdx.json"} {
			content := make([]byte, 100_000)
			_, err := rand.Read(content)
			must(t, err)
			file := program + "_" + version + "_" + suffix
			files[file] = content
			must(t, os.WriteFile(filepath.Join(dist, file), content, 0o755))
		}
	}
	return dist, files
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fileOf returns the file at the root of an image that OpenBao would take for
// the plugin. All else that is in the image fails the test.
func fileOf(t *testing.T, image v1.Image, binary string) []byte {
	t.Helper()
	content := mutate.Extract(image)
	defer content.Close()
	var found []byte
	for r := tar.NewReader(content); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		must(t, err)
		if header.Name != binary || header.Typeflag != tar.TypeReg || header.Mode != 0o755 {
			t.Errorf("%s is in the image, of type %q and mode %o", header.Name, header.Typeflag, header.Mode)
			continue
		}
		found, err = io.ReadAll(r)
		must(t, err)
	}
}

// platforms are what OpenBao takes its own platform for.
var platforms = map[string]v1.Platform{
	"amd64": {OS: "linux", Architecture: "amd64"},
	"arm64": {OS: "linux", Architecture: "arm64", Variant: "v8"},
}

// download takes the image for a platform from a registry: the one that is for
// exactly this platform, as newer versions of OpenBao have it. Older ones, and
// others, leave the choice to the library, which must choose the same.
func download(t *testing.T, tag name.Tag, platform v1.Platform) v1.Image {
	t.Helper()
	index, err := remote.Index(tag)
	must(t, err)
	manifest, err := index.IndexManifest()
	must(t, err)
	for _, m := range manifest.Manifests {
		if !m.Platform.Equals(platform) {
			continue
		}
		image, err := index.Image(m.Digest)
		must(t, err)
		chosen, err := remote.Image(tag, remote.WithPlatform(platform))
		must(t, err)
		if digest, err := chosen.Digest(); err != nil || digest != m.Digest {
			t.Errorf("the library chooses another image for %s, %v", platform, err)
		}
		return image
	}
	t.Fatalf("there is no image for %s", platform)
	return nil
}

// TestRegistry pushes to a registry and takes the program out of what is there,
// for each platform, as OpenBao does when it downloads a plugin.
func TestRegistry(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	prefix := strings.TrimPrefix(server.URL, "http://") + "/team"
	dist, files := release(t)
	var out bytes.Buffer
	must(t, run(dist, version, prefix, &out))
	for _, program := range programs {
		for architecture := range platforms {
			tag, err := name.NewTag(prefix + "/" + program + ":" + version)
			must(t, err)
			image := download(t, tag, platforms[architecture])
			must(t, validate.Image(image))
			want := files[program+"_"+version+"_linux_"+architecture]
			if !bytes.Equal(fileOf(t, image, program), want) {
				t.Errorf("the image of %s for %s has another program", program, architecture)
			}
			config, err := image.ConfigFile()
			must(t, err)
			if config.Architecture != architecture || config.Config.User != user || config.Config.Entrypoint[0] != "/"+program {
				t.Errorf("the configuration of %s for %s: %+v", program, architecture, config)
			}
			sum := sha256.Sum256(want)
			id, err := image.ConfigName()
			must(t, err)
			for _, told := range []string{prefix + "/" + program + ":" + version, "program    sha256:" + hex.EncodeToString(sum[:]), "id         " + id.String()} {
				if !strings.Contains(out.String(), told) {
					t.Errorf("it does not tell %s:\n%s", told, out.String())
				}
			}
		}
	}
}

// TestLayout: the layouts are whole, name their version, and are the same each
// time.
func TestLayout(t *testing.T) {
	dist, _ := release(t)
	digests := map[string]v1.Hash{}
	for range 2 {
		must(t, run(dist, version, "", io.Discard))
		for _, program := range programs {
			index, err := layout.ImageIndexFromPath(filepath.Join(dist, "images", program))
			must(t, err)
			must(t, validate.Index(index))
			manifest, err := index.IndexManifest()
			must(t, err)
			if len(manifest.Manifests) != 1 || manifest.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != version {
				t.Errorf("the layout of %s: %+v", program, manifest)
			}
			digest, err := index.Digest()
			must(t, err)
			if before, ok := digests[program]; ok && before != digest {
				t.Errorf("%s differs from run to run", program)
			}
			digests[program] = digest
		}
	}
}

func TestNothingToDo(t *testing.T) {
	if err := run(t.TempDir(), version, "", io.Discard); err == nil || !strings.Contains(err.Error(), "make release") {
		t.Errorf("without programs: %v", err)
	}
	if err := run(t.TempDir(), "", "", io.Discard); err == nil {
		t.Error("without a version")
	}
	dist, _ := release(t)
	if err := run(dist, version, "not a registry", io.Discard); err == nil {
		t.Error("with a bad prefix")
	}
}

// TestDocumentation: OpenBao finds what docs/operations.md tells it to look for.
func TestDocumentation(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	must(t, err)
	for _, line := range []string{`binary_name = "` + programs[0] + `"`, `image       = "registry.example.com/team/` + programs[0] + `"`} {
		if !strings.Contains(string(text), line) {
			t.Errorf("docs/operations.md does not say %s", line)
		}
	}
}
