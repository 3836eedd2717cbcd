package testvault

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// notSource are folders at the top of a checkout that builds do not read.
var notSource = []string{".git", "bin", "dist"}

// CopySource copies this repository, without what lies in its history and what
// builds leave behind, into a folder, which may exist.
func CopySource(dir string) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		switch {
		case err != nil:
			return err
		case slices.Contains(notSource, name) && entry.IsDir():
			return fs.SkipDir
		case slices.Contains(notSource, name): // .git of a work tree
			return nil
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(dir, name), 0o755)
		case !entry.Type().IsRegular():
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name), content, info.Mode().Perm())
	})
}
