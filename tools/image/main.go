// Command image makes OCI images of released programs, without a container
// engine: a layout in a folder for each program, and a copy in a registry if
// one is named. The same programs give the same images.
package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// programs are those that images are made of: the engine, and the endpoint.
var programs = []string{"vault-plugin-secrets-kms-hmac", "kms-gateway"}

// user is one without rights, as in images that others call nonroot.
const user = "65532:65532"

func main() {
	dist := flag.String("dist", "dist", "`folder` of a release, PROGRAM_VERSION_OS_ARCH files; the images go to images/ in it")
	version := flag.String("version", "", "`version` of the release, which is the images' tag")
	push := flag.String("push", "", "`prefix` of the repositories to push to: registry.example.com/team")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*dist, *version, *push, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// run makes an image of each program, and tells out about it.
func run(dist, version, push string, out io.Writer) error {
	if version == "" {
		return errors.New("a -version is needed")
	}
	for _, program := range programs {
		images, err := imagesOf(dist, program, version)
		if err != nil {
			return fmt.Errorf("%s: %w", program, err)
		}
		index := indexOf(images, version)
		if err := writeLayout(filepath.Join(dist, "images", program), index, version); err != nil {
			return fmt.Errorf("writing the layout of %s: %w", program, err)
		}
		repository := program
		if push != "" {
			if repository, err = pushTo(push, program, version, index); err != nil {
				return fmt.Errorf("pushing %s: %w", program, err)
			}
		}
		if err := tell(out, repository, version, index, images); err != nil {
			return err
		}
	}
	return nil
}

// image is the image of a program for one platform.
type image struct {
	v1.Image
	platform v1.Platform
	program  string
	sum      string // of the program
}

// imagesOf makes an image of each of a program's files for Linux.
func imagesOf(dist, program, version string) ([]image, error) {
	prefix := program + "_" + version + "_linux_"
	files, err := filepath.Glob(filepath.Join(dist, prefix+"*"))
	if err != nil {
		return nil, err
	}
	var images []image
	for _, file := range files {
		architecture := strings.TrimPrefix(filepath.Base(file), prefix)
		if strings.Contains(architecture, ".") {
			continue // what is about the program: its bill of materials
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		i, err := imageOf(program, version, platformOf(architecture), content)
		if err != nil {
			return nil, err
		}
		images = append(images, i)
	}
	if len(images) == 0 {
		return nil, fmt.Errorf("%s has no %s*: make release makes them", dist, prefix)
	}
	return images, nil
}

// platformOf is the platform of an architecture, spelled as those who look for
// theirs do: OpenBao takes no arm64 that is not v8.
func platformOf(architecture string) v1.Platform {
	p := v1.Platform{OS: "linux", Architecture: architecture}
	if architecture == "arm64" {
		p.Variant = "v8"
	}
	return p
}

// imageOf makes an image with nothing in it but a program, at its root: there
// OpenBao looks for plugins.
func imageOf(program, version string, platform v1.Platform, content []byte) (image, error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	header := &tar.Header{Typeflag: tar.TypeReg, Name: program, Mode: 0o755, Size: int64(len(content)), ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	err := w.WriteHeader(header)
	if err == nil {
		_, err = w.Write(content)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return image{}, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(archive.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return image{}, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	made, err := mutate.AppendLayers(base, layer)
	if err != nil {
		return image{}, err
	}
	config, err := made.ConfigFile()
	if err != nil {
		return image{}, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant = platform.OS, platform.Architecture, platform.Variant
	config.Config = v1.Config{Entrypoint: []string{"/" + program}, User: user, Labels: labels(version)}
	made, err = mutate.ConfigFile(made, config)
	sum := sha256.Sum256(content)
	return image{made, platform, program, hex.EncodeToString(sum[:])}, err
}

func labels(version string) map[string]string {
	return map[string]string{
		"org.opencontainers.image.version":  version,
		"org.opencontainers.image.licenses": "MPL-2.0",
	}
}

// indexOf makes one image of those for the platforms.
func indexOf(images []image, version string) v1.ImageIndex {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, i := range images {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: i, Descriptor: v1.Descriptor{Platform: &i.platform}})
	}
	return mutate.Annotations(index, labels(version)).(v1.ImageIndex)
}

// writeLayout writes an image as an OCI layout, in place of one that was there.
func writeLayout(dir string, index v1.ImageIndex, version string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	return path.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": version}))
}

// pushTo pushes an image, with the credentials that docker or podman login has
// left, and returns its repository.
func pushTo(prefix, program, version string, index v1.ImageIndex) (string, error) {
	tag, err := name.NewTag(strings.TrimSuffix(prefix, "/") + "/" + program + ":" + version)
	if err != nil {
		return "", err
	}
	return tag.Context().Name(), remote.WriteIndex(tag, index, remote.WithAuthFromKeychain(authn.DefaultKeychain))
}

// tell prints what others ask for to trust the images.
func tell(out io.Writer, repository, version string, index v1.ImageIndex, images []image) error {
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s:%s\n  digest       %s\n", repository, version, digest)
	for _, i := range images {
		digest, err := i.Digest()
		if err != nil {
			return err
		}
		id, err := i.ConfigName()
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "  %s/%s\n    program    sha256:%s\n    digest     %s\n    id         %s\n", i.platform.OS, i.platform.Architecture, i.sum, digest, id)
	}
	return nil
}
