// What the page does without asking the server.
window.dash_clientside = Object.assign({}, window.dash_clientside, {
  zoo: {
    // Files that were dropped or chosen, or the example; too large ones stay here, with a sentence.
    take(contents, clicks, names, example, limits) {
      const none = window.dash_clientside.no_update;
      const context = window.dash_clientside.callback_context;
      if (context.triggered.some((one) => one.prop_id === "show-example.n_clicks")) {
        return [[example], none];
      }
      if (!contents || !contents.length) {
        return [none, none];
      }
      // They come in the order in which the browser has finished reading them, which is another one each time.
      const order = names.map((_, n) => n);
      order.sort((a, b) => names[a].localeCompare(names[b], "en", { numeric: true }));
      let left = 6 * limits.bytes; // of all files together
      const files = order.slice(0, limits.files).map((n) => {
        const content = contents[n];
        const bytes = Math.floor((content.length - content.indexOf(",")) * 0.75);
        const most = Math.min(limits.bytes, left);
        if (bytes > most) {
          const most = (limits.bytes / 1e6).toFixed(0);
          return {
            name: names[n],
            error: `${names[n]}: has ${(bytes / 1e6).toFixed(1)} MB, at most ${most} MB are read, ${6 * most} MB at a time`,
          };
        }
        left -= bytes;
        return { name: names[n], content: content };
      });
      if (contents.length > limits.files) {
        const more = contents.length - limits.files;
        files.push({ name: `${more} more`, error: `at most ${limits.files} files at a time: ${more} were left out` });
      }
      return [files, null];
    },

    // The file that the answer and the picture are of.
    choose(value, files) {
      return (value !== null && value !== undefined && files && files[value]) || null;
    },

    // Draws what is there, the crystal before the surfaces of its tensors; the camera stays where it is.
    show(scene, answered, shown) {
      window.zooPicture().set(scene, (scene && answered && answered.surfaces) || [], shown);
      return scene ? [(answered && answered.caption) || "", "left"] : ["", "left nothing"];
    },

    // The buttons on the picture.
    look() {
      const picture = window.zooPicture();
      const name = window.dash_clientside.callback_context.triggered[0].prop_id.split(".")[0];
      if (name === "reset") picture.reset();
      else if (name === "save-picture") picture.save();
      else picture.look(["along-a", "along-b", "along-c"].indexOf(name));
      return window.dash_clientside.no_update;
    },
  },
});
